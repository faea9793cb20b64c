"""Run the command line as in an environment without the extra `mysql-rsa`."""

from __future__ import annotations

import sys

sys.modules["cryptography"] = None  # type: ignore[assignment]

from chatkeep.cli import main  # noqa: E402 - after the package is hidden

main()

"""Start the application, and print whether it imported the schema."""

from __future__ import annotations

import importlib
import sys

if __name__ == "__main__":
    importlib.import_module("app")
    print("chatkeep.store.schema" in sys.modules)  # noqa: T201 - the output of this program

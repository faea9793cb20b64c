"""Serve chatkeep through Waitress on any system; `chatkeep serve` does so on Windows only."""

from __future__ import annotations

from chatkeep.server import serving

if __name__ == "__main__":
    serving.serve_waitress()

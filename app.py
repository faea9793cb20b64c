"""The WSGI application for servers to import; running the file serves for development."""

from __future__ import annotations

from chatkeep.server import serving

if __name__ == "__main__":
    serving.require_place(serving.checked_settings())  # before the database is opened
app = serving.wsgi()
serving.drain_on_signals(app)

if __name__ == "__main__":
    serving.serve_development(app)

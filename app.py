"""The WSGI application for servers to import; running the file serves for development."""

from __future__ import annotations

from chatkeep import servers

if __name__ == "__main__":
    servers.require_place(servers.checked_settings())  # before the database is opened
app = servers.wsgi()
servers.drain_on_signals(app)

if __name__ == "__main__":
    servers.serve_development(app)

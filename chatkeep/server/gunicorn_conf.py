"""gunicorn's configuration for production, made from chatkeep's settings.

``gunicorn -c python:chatkeep.server.gunicorn_conf …`` reads the names of this module. The application is not preloaded:
workers import it after gevent has patched them.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import Any

from gunicorn import glogging, systemd

from chatkeep.errors import SettingsError
from chatkeep.runtime import garbage, logs
from chatkeep.server import serving
from chatkeep.server.gunicorn_master import Master, run_in_child

garbage.collect_rarely()  # gunicorn imports the worker, and with it most of chatkeep, after this module
_settings = serving.checked_settings()

bind = _settings.place
# For a Unix socket.
umask = 0o777 & ~_settings.socket_mode
workers = _settings.workers
worker_class = "chatkeep.server.gunicorn_worker.DrainingWorker"
# Streams are cheap; the limit of open files comes first.
worker_connections = 10_000
backlog = 2048
keepalive = 75
# Replace a worker whose event loop hangs for this long. Long streams are fine.
timeout = 60
# Workers enforce the drain's deadline themselves; this is the fallback.
graceful_timeout = int(_settings.drain_timeout) + 15
# Its default place is the home folder.
control_socket_disable = True
forwarded_allow_ips = "127.0.0.1,::1"
# The only trusted header: most proxies forward others, such as SCRIPT_NAME, from clients.
secure_scheme_headers = {"X-FORWARDED-PROTO": "https"}
forwarder_headers = ""
errorlog = "-"
loglevel = _settings.log_level.lower()


class Logger(glogging.Logger):  # type: ignore[misc]  # gunicorn ships no types
    """gunicorn's log records in chatkeep's format and place."""

    def setup(self, cfg: Any) -> None:
        """Configure logging; exit with the reason if the log file can't be opened."""
        super().setup(cfg)
        try:
            logs.start(_settings.log_level, _settings.log_format, _settings.log_file)
            logs.take_over(self.error_log, elsewhere=cfg.errorlog != errorlog)
        except SettingsError as error:
            serving.stop(error)


logger_class = Logger


def on_starting(server: Any) -> None:
    """Prepare the master, and migrate the database."""
    # The command line for SIGUSR2; gunicorn's own is wrong after `python -m gunicorn`.
    server.START_CTX["args"] = [sys.executable, *sys.orig_argv[1:]]
    is_ours = server.cfg.bind == [bind] and not server.cfg.reuse_port
    if is_ours and not server.master_pid and "LISTEN_FDS" not in os.environ:  # otherwise it inherits its sockets
        serving.require_place(_settings)
    if server.cfg.worker_class_str == worker_class:  # -k may have changed it
        server.__class__ = Master  # gunicorn has no setting for the master's class
    # Before workers boot: a migration may take longer than their timeout.
    run_in_child(partial(serving.prepare_database, _settings))


def when_ready(server: Any) -> None:
    """Tell systemd the main process: SIGUSR2 starts a second master."""
    systemd.sd_notify(f"MAINPID={os.getpid()}", server.log)

"""gunicorn's configuration for production on Linux, from the same settings as everything else.

``gunicorn -c python:chatkeep.server.gunicorn_conf …`` reads the names of this module. The application is imported in
the workers, after gevent has patched them: not preloaded.
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

garbage.look_rarely()  # gunicorn imports the worker, and most of chatkeep with it, once it has read this module
_settings = serving.checked_settings()

bind = _settings.place
# Of a socket; gunicorn gives it the process's own group.
umask = 0o777 & ~_settings.socket_mode
workers = _settings.workers
worker_class = "chatkeep.server.gunicorn_worker.DrainingWorker"
# Streams are cheap: the limit that counts is the number of open files.
worker_connections = 10_000
backlog = 2048
keepalive = 75
# A worker that does not answer the master for this long is replaced; streams do not count against it.
timeout = 60
# The worker itself ends what is open at the drain's deadline; this is for one that does not.
graceful_timeout = int(_settings.drain_timeout) + 15
# It would be made in the home folder.
control_socket_disable = True
forwarded_allow_ips = "127.0.0.1,::1"
# The only header that is believed: most proxies pass on what a client sends in others, such as SCRIPT_NAME.
secure_scheme_headers = {"X-FORWARDED-PROTO": "https"}
forwarder_headers = ""
errorlog = "-"
loglevel = _settings.log_level.lower()


class Logger(glogging.Logger):  # type: ignore[misc]  # gunicorn ships no types
    """gunicorn's own records, written as ours are."""

    def setup(self, cfg: Any) -> None:
        """Say where records go; end the program with the reason if they cannot go there."""
        super().setup(cfg)
        try:
            logs.start(_settings.log_level, _settings.log_format, _settings.log_file)
            logs.take_over(self.error_log, elsewhere=cfg.errorlog != errorlog)
        except SettingsError as error:
            serving.stop(error)


logger_class = Logger


def on_starting(server: Any) -> None:
    """Prepare the master, and the database that workers open."""
    # SIGUSR2 starts a second master with them; gunicorn's own are wrong after `python -m gunicorn`.
    server.START_CTX["args"] = [sys.executable, *sys.orig_argv[1:]]
    is_ours = server.cfg.bind == [bind] and not server.cfg.reuse_port
    if is_ours and not server.master_pid and "LISTEN_FDS" not in os.environ:  # or else it is given its sockets
        serving.require_place(_settings)
    if server.cfg.worker_class_str == worker_class:  # with -k it may be another
        server.__class__ = Master  # gunicorn has no setting for it
    # Before any worker boots: a migration may take longer than a worker may be silent.
    run_in_child(partial(serving.prepare_database, _settings))


def when_ready(server: Any) -> None:
    """Tell systemd which process is the server now: after SIGUSR2 a new master serves beside the old one."""
    systemd.sd_notify(f"MAINPID={os.getpid()}", server.log)

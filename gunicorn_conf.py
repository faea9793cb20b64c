"""gunicorn's configuration: ``gunicorn -c gunicorn_conf.py app:app``."""

from chatkeep.server.gunicorn_conf import *  # noqa: F403 - gunicorn reads the names of this module

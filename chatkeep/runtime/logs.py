"""Write logs that never contain user content or secrets.

Texts of exceptions may quote anything: a database the refused value, a parser the line, a provider the prompt. So of an
exception only its classes, its numbers and its stack are logged. Records of other libraries are cut if they quote a
request.
"""

from __future__ import annotations

import copy
import json
import logging
import logging.handlers
import os
import re
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from io import TextIOWrapper
from types import TracebackType
from typing import Any

from chatkeep.domain.conversation import moment
from chatkeep.errors import DatabaseRefused, SettingsError
from chatkeep.i18n import _

log = logging.getLogger(__name__)
FORMAT = "%(asctime)s %(levelname)s %(name)s[%(process)d]: %(message)s"
JSON = "json"
request_id = ContextVar("request_id", default="")
"""The id of the request that this thread or greenlet serves."""
_LARGEST_CODE = 99_999
# gunicorn, Waitress and Werkzeug quote a request or an exception after these texts.
_QUOTING = re.compile(
    r"(Invalid request from ip=\S*:|uncaptured python exception|Error on request:|Error processing SSL).*", re.DOTALL
)


class RedactingFormatter(logging.Formatter):
    """Format records without texts of exceptions and without query strings."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as a line, followed by the stack if the record has an exception."""
        safe = copy.copy(record)
        safe.msg, safe.args = _QUOTING.sub(r"\1 (not shown)", _message(record)), ()
        safe.exc_text = traced(record.exc_info[1]) if record.exc_info and record.exc_info[1] else None
        safe.exc_info = safe.stack_info = None
        return super().format(safe)

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002, N802 - Python's signature
        """Return the time of a record (RFC 3339, UTC)."""
        return moment(int(record.created * 1e6)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class JsonFormatter(RedactingFormatter):
    """Format the same content as one JSON object, with the request's id and the record's ``fields``."""

    def __init__(self) -> None:
        super().__init__("%(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as one line of JSON."""
        message, _, rest = super().format(record).partition("\n")
        event = {
            "time": self.formatTime(record),
            "level": record.levelname,
            "logger": record.name,
            "process": record.process,
            "message": message,
            "trace": rest,
            "request_id": request_id.get(),
            **getattr(record, "fields", {}),
        }
        return json.dumps({name: value for name, value in event.items() if value != ""}, ensure_ascii=False)


class _File(logging.handlers.WatchedFileHandler):
    """A log file with mode 0600, which is created again after rotation."""

    def _open(self) -> TextIOWrapper:
        return open(self.baseFilename, "a", encoding="utf-8", opener=lambda path, flags: os.open(path, flags, 0o600))


_formatter: logging.Formatter = RedactingFormatter(FORMAT)
_file: str | None = None


def named(error: BaseException) -> str:
    """Return the classes and numbers of an exception and its causes, without their texts."""
    return " < ".join(_kind(link) for link in chain(error))


def traced(error: BaseException) -> str:
    """Return the stacks of an exception and its causes; every line comes from the code."""
    told = []
    for link in reversed([*chain(error)]):
        told += [*traceback.format_list(traceback.extract_tb(link.__traceback__)), f"{_kind(link)}\n"]
    return "".join(told).rstrip()


def start(level: str, form: str, file: str | None) -> None:
    """Log to a file or to standard error, unless the embedding program has configured logging.

    Raises `SettingsError` if the file cannot be written.
    """
    global _formatter, _file
    _formatter, _file = JsonFormatter() if form == JSON else RedactingFormatter(FORMAT), file
    _attach_target()
    logging.getLogger("chatkeep").setLevel(level)


def is_json() -> bool:
    """Return whether the log format is JSON."""
    return isinstance(_formatter, JsonFormatter)


def log_immediately(logger: logging.Logger, level: int, message: str) -> None:
    """Write a line without the locks of `logging`: a blocked thread may hold one."""
    record = logger.makeRecord(logger.name, level, "", 0, message, (), None)
    line = f"{_formatter.format(record)}\n".encode()
    if _file is None:
        os.write(2, line)
        return
    number = os.open(_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(number, line)
    os.close(number)


def take_over(logger: logging.Logger, *, elsewhere: bool) -> None:
    """Format another library's records like our own; ``elsewhere`` keeps its own targets."""
    if not elsewhere:
        logger.handlers[:] = logging.root.handlers
        return
    for target in logger.handlers:
        target.setFormatter(_formatter)


def on_behalf(of: str, work: Callable[..., None], *args: Any) -> None:
    """Run work with the request's id in its log lines."""
    request_id.set(of)
    work(*args)


def _attach_target() -> None:
    if not logging.root.handlers:
        logging.root.addHandler(_target())


def _target() -> logging.Handler:
    try:
        target = logging.StreamHandler() if _file is None else _File(_file)
    except OSError as error:
        raise SettingsError(
            [_("CHATKEEP_LOG_FILE: {path} cannot be written: {reason}", path=_file, reason=error.strerror)]
        ) from error
    target.setFormatter(_formatter)
    return target


def catch_uncaught() -> None:
    """Log uncaught exceptions in place of Python and gevent, whose output quotes them."""
    sys.excepthook = _uncaught
    threading.excepthook = lambda hook: _uncaught(hook.exc_type, hook.exc_value, hook.exc_traceback)
    gevent: Any = sys.modules.get("gevent")
    if gevent is not None:
        gevent.get_hub().print_exception = lambda _context, *found: _uncaught(*found)


def _uncaught(kind: type[BaseException], error: BaseException | None, at: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error or kind(), at)
    elif not issubclass(kind, SystemExit):  # a thread may end itself with it
        _attach_target()
        log.critical("uncaught exception", exc_info=(kind, error or kind(), at))


def _message(record: logging.LogRecord) -> str:
    if isinstance(record.msg, BaseException):
        return named(record.msg)
    safe = copy.copy(record)
    if isinstance(record.args, tuple):
        safe.args = tuple(map(_argument, record.args))
    return safe.getMessage()


def _argument(value: object) -> object:
    if isinstance(value, BaseException):
        return named(value)
    return value.partition("?")[0] if isinstance(value, str) and " " not in value else value


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and its causes, the root cause last."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _kind(error: BaseException) -> str:
    """Return an exception's class and number: an HTTP status, an errno, or a database's error number.

    For a refused statement also its beginning, which holds no values.
    """
    numbers = (
        getattr(error, "upstream_status", None),
        getattr(error, "errno", None),
        getattr(error, "extendedresult", None),  # of SQLite
        *error.args[:1],
    )
    number = next((item for item in numbers if isinstance(item, int) and abs(item) <= _LARGEST_CODE), None)
    statement = f" of {error.statement!r}" if isinstance(error, DatabaseRefused) and error.statement else ""
    return type(error).__name__ + ("" if number is None else f" {number}") + statement

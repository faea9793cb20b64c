"""Explain why a database cannot be opened or written, in one sentence with the setting to change. Pure.

Of a database's error only the number is quoted: its message may contain stored data.
"""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import apsw
import pymysql
import sqlalchemy as sa
from sqlalchemy.engine import URL

from chatkeep.errors import Problem, SettingsError
from chatkeep.i18n import N_, Text, _
from chatkeep.runtime.logs import chain
from chatkeep.store.places import options_of, parsed
from chatkeep.store.sql import StoreError

PORT = 3306
_CLIENTS_OWN = range(2000, 3000)
_OF_WRONG_HOST = {62, 64}  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
_ELSEWHERE = _("choose another place by DATABASE_URL or CHATKEEP_DATA_DIR")
_REFUSALS = {
    N_("DATABASE_URL: {place} refuses the user {user}: error {number}; correct the user and the password"): {
        1045,
        1698,
    },
    N_(
        "DATABASE_URL: the user {user} at {place} lacks rights on the database {name}: error {number};"
        " grant it ALL on that database, or correct its name"
    ): {1044, 1142, 1143, 1227, 1370},
    N_(
        "DATABASE_URL: {place} has no database {name}: error {number};"
        " correct the name, or run there: CREATE DATABASE {name} CHARACTER SET utf8mb4"
    ): {1049},
    N_(
        "DATABASE_URL: {place} lets in no user from this machine: error {number};"
        " create the user {user} for this machine's address"
    ): {1130},
    N_("DATABASE_URL: {place} blocks this machine: error {number}; run there: FLUSH HOSTS"): {1129},
    N_(
        "DATABASE_URL: {place} has no connection left: error {number};"
        " raise max_connections there, or stop other programs"
    ): {1040, 1203, 1226},
    N_(
        "DATABASE_URL: the password of the user {user} at {place} has expired, or its account is locked:"
        " error {number}; run there: ALTER USER"
    ): {1820, 1862, 3118, 4151},
    N_("DATABASE_URL: {place} takes encrypted connections alone: error {number}; add the option ssl-mode=REQUIRED"): {
        3159,
        4165,
    },
    N_("DATABASE_URL: {place} offers no TLS; set it up there, or remove the options that begin with ssl"): {2026},
    N_("DATABASE_URL: {place} is read-only: error {number}; name the primary, or turn read_only off there"): {
        1036,
        1290,
        1792,
        1836,
        1874,
        1881,
    },
    N_(
        "DATABASE_URL: {place} has binlog_format=STATEMENT, which cannot log transactions at READ COMMITTED:"
        " error {number}; set binlog_format=ROW there"
    ): {1665},
    N_("DATABASE_URL: the disk of {place} is full: error {number}; make room there"): {3, 1021, 1114},
    N_(
        "DATABASE_URL: the user {user} at {place} signs in with a plugin that is not supported: error {number};"
        " use caching_sha2_password or mysql_native_password"
    ): {1251, 2059},
}
_OF_FILES: dict[str, tuple[type[Exception], ...]] = {
    N_("DATABASE_URL: the disk of {path} is full; make room, or {elsewhere}"): (apsw.FullError,),
    N_("DATABASE_URL: {path} is not a SQLite database, or it is encrypted; move it away, or {elsewhere}"): (
        apsw.NotADBError,
    ),
    N_("DATABASE_URL: {path} is damaged; restore a backup of it, or move it away"): (apsw.CorruptError,),
    N_("DATABASE_URL: another program keeps {path} locked; end it, or {elsewhere}"): (apsw.BusyError, apsw.LockedError),
    N_("DATABASE_URL: this user may not write {path} and its folder; allow it, or {elsewhere}"): (
        apsw.ReadOnlyError,
        apsw.PermissionsError,
    ),
    N_("DATABASE_URL: {path} cannot be opened; its folder has to be one that this user may write; {elsewhere}"): (
        apsw.CantOpenError,
    ),
    N_("DATABASE_URL: the disk of {path} fails; see the system's log, or {elsewhere}"): (apsw.IOError,),
}
_BY_ERRNO: dict[int, type[Exception]] = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), apsw.FullError),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), apsw.PermissionsError),
    errno.EIO: apsw.IOError,
}
_OF_CONNECTIONS: dict[str, tuple[type[Exception], ...]] = {
    N_("DATABASE_URL: the certificate of {place} is not of the authority in ssl-ca; name its file there"): (
        ssl.SSLCertVerificationError,
    ),
    N_("DATABASE_URL: TLS with {place} fails: {why}"): (ssl.SSLError,),
    N_("DATABASE_URL: the host {host} is unknown; correct it, or the DNS of this machine"): (socket.gaierror,),
    N_("DATABASE_URL: {place} does not answer in time; check that the database runs there"): (TimeoutError,),
    N_("DATABASE_URL: no database listens on {place}; start it, or correct the host and the port"): (
        ConnectionRefusedError,
        FileNotFoundError,
    ),
    N_("DATABASE_URL: what listens on {place} hangs up, or is not MySQL; correct the host and the port"): (
        ConnectionError,
    ),
}
_UNREACHABLE = N_("DATABASE_URL: {place} cannot be reached: {why}")
_BY_NUMBER = {number: sentence for sentence, numbers in _REFUSALS.items() for number in numbers}


@contextmanager
def explained(url: str) -> Iterator[None]:
    """Raise `SettingsError` with one sentence if a database cannot be opened or written."""
    try:
        yield
    except (Problem, StoreError, sa.exc.SQLAlchemyError, apsw.Error, pymysql.Error, OSError) as error:
        raise SettingsError([reason(error, url)]) from error


def reason(error: BaseException, url: str | URL) -> Text:
    """Explain a database's error in a sentence that begins with the setting to change."""
    where, links = url if isinstance(url, URL) else parsed(url), list(chain(error))
    if found := known(error, where):
        return found
    if where.get_backend_name() == "sqlite":
        return _(
            "DATABASE_URL: {path} fails with {error}; {advice}",
            path=where.database,
            error=type(links[-1]).__name__,
            advice=_ELSEWHERE,
        )
    number = next(filter(None, map(_number, links)), 0)
    if number and number not in _CLIENTS_OWN:
        return _(
            "DATABASE_URL: {server} answers with error {number}; its manual tells more",
            server=_place(where),
            number=number,
        )
    return _of_connection(next((link for link in links if isinstance(link, OSError)), None), where)


def is_of_database(error: BaseException) -> bool:
    """Return whether a database's error is in an exception's chain."""
    return any(isinstance(link, apsw.Error | pymysql.Error) for link in chain(error))


def known(error: BaseException, url: URL) -> Text | None:
    """Explain a database's refusal; None if the reason is not a known one."""
    say, links = _of_file if url.get_backend_name() == "sqlite" else _of_server, chain(error)
    return next(filter(None, (say(link, url) for link in links)), None)


def _of_file(error: BaseException, where: URL) -> Text:
    kind = _BY_ERRNO.get(error.errno or 0, apsw.CantOpenError) if isinstance(error, OSError) else type(error)
    sentence = next((sentence for sentence, kinds in _OF_FILES.items() if issubclass(kind, kinds)), "")
    return Text(sentence, path=where.database, elsewhere=_ELSEWHERE)


def _of_server(error: BaseException, where: URL) -> Text:
    if isinstance(error, RuntimeError) and "cryptography" in str(error):
        return _(
            "DATABASE_URL: the user {user} signs in with a plugin that needs TLS or a package; add the option "
            "ssl-mode=REQUIRED, or run: pip install 'chatkeep[mysql-rsa]'",
            user=where.username,
        )
    names = {"place": _place(where), "user": where.username, "name": where.database, "number": _number(error)}
    return Text(_BY_NUMBER.get(_number(error), ""), **names)


def _number(error: BaseException) -> int:
    """Return the number of an error of the server or of PyMySQL, 0 for other errors."""
    number = error.args[0] if isinstance(error, pymysql.Error) and error.args else 0
    return number if isinstance(number, int) else 0


def _of_connection(error: OSError | None, where: URL) -> Text:
    """Explain a failed connection."""
    place = _place(where)
    if isinstance(error, ssl.SSLCertVerificationError) and error.verify_code in _OF_WRONG_HOST:
        return _(
            "DATABASE_URL: the certificate of {server} is for another name; write ssl-mode=VERIFY_CA to allow it",
            server=place,
        )
    kind = ConnectionError if error is None else type(error)
    sentence = next((sentence for sentence, kinds in _OF_CONNECTIONS.items() if issubclass(kind, kinds)), "")
    why = error.strerror if error else ""
    return Text(sentence or _UNREACHABLE, place=place, host=where.host, why=why)


def _place(where: URL) -> str:
    return options_of(where).unix_socket or f"{where.host or 'localhost'}:{where.port or PORT}"

"""Why a database cannot be opened or written: one sentence with the setting to change. Pure.

A sentence quotes nothing that a database says but the number of its error: its own words may hold what is stored.
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
from chatkeep.runtime.logs import chain
from chatkeep.store.places import options_of, parsed
from chatkeep.store.sql import StoreError

PORT = 3306
_CLIENTS_OWN = range(2000, 3000)
_OF_WRONG_HOST = {62, 64}  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
_ELSEWHERE = "choose another place by DATABASE_URL or CHATKEEP_DATA_DIR"
_REFUSALS = {
    "DATABASE_URL: {place} refuses the user {user}: error {number}; correct the user and the password": {1045, 1698},
    (
        "DATABASE_URL: the user {user} at {place} lacks rights on the database {name}: error {number};"
        " grant it ALL on that database, or correct its name"
    ): {1044, 1142, 1143, 1227, 1370},
    (
        "DATABASE_URL: {place} has no database {name}: error {number};"
        " correct the name, or run there: CREATE DATABASE {name} CHARACTER SET utf8mb4"
    ): {1049},
    (
        "DATABASE_URL: {place} lets in no user from this machine: error {number};"
        " create the user {user} for this machine's address"
    ): {1130},
    "DATABASE_URL: {place} blocks this machine: error {number}; run there: FLUSH HOSTS": {1129},
    (
        "DATABASE_URL: {place} has no connection left: error {number};"
        " raise max_connections there, or stop other programs"
    ): {1040, 1203, 1226},
    (
        "DATABASE_URL: the password of the user {user} at {place} has expired, or its account is locked:"
        " error {number}; run there: ALTER USER"
    ): {1820, 1862, 3118, 4151},
    "DATABASE_URL: {place} takes encrypted connections alone: error {number}; add the option ssl-mode=REQUIRED": {
        3159,
        4165,
    },
    "DATABASE_URL: {place} offers no TLS; set it up there, or remove the options that begin with ssl": {2026},
    "DATABASE_URL: {place} is read-only: error {number}; name the primary, or turn read_only off there": {
        1036,
        1290,
        1792,
        1836,
        1874,
        1881,
    },
    (
        "DATABASE_URL: {place} has binlog_format=STATEMENT, which cannot log transactions at READ COMMITTED:"
        " error {number}; set binlog_format=ROW there"
    ): {1665},
    "DATABASE_URL: the disk of {place} is full: error {number}; make room there": {3, 1021, 1114},
    (
        "DATABASE_URL: the user {user} at {place} signs in with a plugin that is not supported: error {number};"
        " use caching_sha2_password or mysql_native_password"
    ): {1251, 2059},
}
_OF_FILES: dict[str, tuple[type[Exception], ...]] = {
    "DATABASE_URL: the disk of {path} is full; make room, or {elsewhere}": (apsw.FullError,),
    "DATABASE_URL: {path} is not a SQLite database, or it is encrypted; move it away, or {elsewhere}": (
        apsw.NotADBError,
    ),
    "DATABASE_URL: {path} is damaged; restore a backup of it, or move it away": (apsw.CorruptError,),
    "DATABASE_URL: another program keeps {path} locked; end it, or {elsewhere}": (apsw.BusyError, apsw.LockedError),
    "DATABASE_URL: this user may not write {path} and its folder; allow it, or {elsewhere}": (
        apsw.ReadOnlyError,
        apsw.PermissionsError,
    ),
    "DATABASE_URL: {path} cannot be opened; its folder has to be one that this user may write; {elsewhere}": (
        apsw.CantOpenError,
    ),
    "DATABASE_URL: the disk of {path} fails; see the system's log, or {elsewhere}": (apsw.IOError,),
}
_BY_ERRNO: dict[int, type[Exception]] = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), apsw.FullError),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), apsw.PermissionsError),
    errno.EIO: apsw.IOError,
}
_OF_CONNECTIONS: dict[str, tuple[type[Exception], ...]] = {
    "DATABASE_URL: the certificate of {place} is not of the authority in ssl-ca; name its file there": (
        ssl.SSLCertVerificationError,
    ),
    "DATABASE_URL: TLS with {place} fails: {why}": (ssl.SSLError,),
    "DATABASE_URL: the host {host} is unknown; correct it, or the DNS of this machine": (socket.gaierror,),
    "DATABASE_URL: {place} does not answer in time; check that the database runs there": (TimeoutError,),
    "DATABASE_URL: no database listens on {place}; start it, or correct the host and the port": (
        ConnectionRefusedError,
        FileNotFoundError,
    ),
    "DATABASE_URL: what listens on {place} hangs up, or is not MySQL; correct the host and the port": (
        ConnectionError,
    ),
}
_BY_NUMBER = {number: sentence for sentence, numbers in _REFUSALS.items() for number in numbers}


@contextmanager
def explained(url: str) -> Iterator[None]:
    """Raise `SettingsError` with one sentence where a database cannot be opened or written."""
    try:
        yield
    except (Problem, StoreError, sa.exc.SQLAlchemyError, apsw.Error, pymysql.Error, OSError) as error:
        raise SettingsError([reason(error, url)]) from error


def reason(error: BaseException, url: str | URL) -> str:
    """Return why a database failed, in a sentence that begins with the setting to change."""
    where, links = url if isinstance(url, URL) else parsed(url), list(chain(error))
    if found := known(error, where):
        return found
    if where.get_backend_name() == "sqlite":
        return f"DATABASE_URL: {where.database} fails with {type(links[-1]).__name__}; {_ELSEWHERE}"
    number = next(filter(None, map(_number, links)), 0)
    if number and number not in _CLIENTS_OWN:
        return f"DATABASE_URL: {_place(where)} answers with error {number}; its manual tells more"
    return _of_connection(next((link for link in links if isinstance(link, OSError)), None), where)


def is_of_database(error: BaseException) -> bool:
    """Return whether a database's failure led to an exception."""
    return any(isinstance(link, apsw.Error | pymysql.Error) for link in chain(error))


def known(error: BaseException, url: URL) -> str:
    """Return why a database refuses, nothing if that is none of the usual reasons."""
    say, links = _of_file if url.get_backend_name() == "sqlite" else _of_server, chain(error)
    return next(filter(None, (say(link, url) for link in links)), "")


def _of_file(error: BaseException, where: URL) -> str:
    kind = _BY_ERRNO.get(error.errno or 0, apsw.CantOpenError) if isinstance(error, OSError) else type(error)
    sentence = next((sentence for sentence, kinds in _OF_FILES.items() if issubclass(kind, kinds)), "")
    return sentence.format(path=where.database, elsewhere=_ELSEWHERE)


def _of_server(error: BaseException, where: URL) -> str:
    if isinstance(error, RuntimeError) and "cryptography" in str(error):
        return (
            f"DATABASE_URL: the user {where.username} signs in with a plugin that needs TLS or a package;"
            " add the option ssl-mode=REQUIRED, or run: pip install 'chatkeep[mysql-rsa]'"
        )
    names = {"place": _place(where), "user": where.username, "name": where.database, "number": _number(error)}
    return _BY_NUMBER.get(_number(error), "").format(**names)


def _number(error: BaseException) -> int:
    """Return the number of a server's or of PyMySQL's error, 0 for all others."""
    number = error.args[0] if isinstance(error, pymysql.Error) and error.args else 0
    return number if isinstance(number, int) else 0


def _of_connection(error: OSError | None, where: URL) -> str:
    """Return why there is no connection."""
    place = _place(where)
    if isinstance(error, ssl.SSLCertVerificationError) and error.verify_code in _OF_WRONG_HOST:
        return f"DATABASE_URL: the certificate of {place} is for another name; write ssl-mode=VERIFY_CA to allow it"
    kind = ConnectionError if error is None else type(error)
    sentence = next((sentence for sentence, kinds in _OF_CONNECTIONS.items() if issubclass(kind, kinds)), "")
    why = error.strerror if error else ""
    return (sentence or "DATABASE_URL: {place} cannot be reached: {why}").format(place=place, host=where.host, why=why)


def _place(where: URL) -> str:
    return options_of(where).unix_socket or f"{where.host or 'localhost'}:{where.port or PORT}"

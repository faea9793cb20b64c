"""Readers for programs that gevent patches."""

from __future__ import annotations

import gevent

from chatkeep.httpclient.reader import BlockingReader, EpollReader, Reader


def epoll_reader() -> EpollReader:
    """Return a reader that a greenlet collects for, as the journal does."""

    def collect() -> None:
        while reader.collect():
            gevent.sleep(0.001)

    reader = EpollReader(lambda: gevent.spawn(collect))
    return reader


def reader_named(name: str) -> Reader:
    """Return a ``blocking`` or an ``epoll`` reader."""
    return epoll_reader() if name == "epoll" else BlockingReader()

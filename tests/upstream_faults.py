"""The faults of the scripted provider: a function for each name in a specification.

Each gets the text after the fault's name in the specification, and returns whether the connection stays open. N is the
number of tokens before the fault.
"""

from __future__ import annotations

import gzip
import json
import socket
import struct
import time
from functools import cache
from typing import TYPE_CHECKING

from tests.answer_parts import SENTENCE
from tests.answers import ANSWERS

if TYPE_CHECKING:
    from tests.exchange import Exchange

LINGER_OFF = struct.pack("ii", 1, 0)


def drop(_: Exchange, _argument: str) -> bool:
    """Close the connection without sending anything."""
    return False


def half_head(exchange: Exchange, _: str) -> bool:
    """Close the connection within the status line."""
    exchange.raw(b"HTTP/1.1 2")
    return False


def hang_headers(exchange: Exchange, _: str) -> bool:
    """Send nothing."""
    return exchange.hang()


def hang_first(exchange: Exchange, _: str) -> bool:
    """Send the headers, then nothing."""
    exchange.head()
    return exchange.hang()


def hang_after(exchange: Exchange, argument: str) -> bool:
    """Send N tokens, then nothing."""
    exchange.begin(argument)
    return exchange.hang()


def hang_done(exchange: Exchange, _: str) -> bool:
    """Send everything, ``[DONE]`` included, and never end the body."""
    exchange.begin("9999")
    exchange.event(exchange.chunk({}, finish_reason="stop"))
    exchange.write(b"data: [DONE]\n\n")
    return exchange.hang()


def hang_reason(exchange: Exchange, _: str) -> bool:
    """Send everything up to the finish reason, then nothing forever."""
    exchange.begin("9999")
    exchange.event(exchange.chunk({}, finish_reason="stop"))
    return exchange.hang()


def heartbeats(exchange: Exchange, _: str) -> bool:
    """Send everything up to the finish reason, then five comments a second forever."""
    exchange.begin("9999")
    exchange.event(exchange.chunk({}, finish_reason="stop"))
    while True:
        exchange.sleep(0.2)
        exchange.write(b": heartbeat\n\n")


def queue(exchange: Exchange, _: str) -> bool:
    """Send only comments, five a second."""
    exchange.head()
    while True:
        exchange.write(b": keep-alive\n\n")
        exchange.sleep(0.2)


def reasoned(exchange: Exchange, _: str) -> bool:
    """Send a finish reason with every word."""
    exchange.head()
    for number, word in enumerate(SENTENCE.split(" ")):
        exchange.pause(number)
        exchange.event(exchange.chunk({"content": f" {word}" if number else word}, finish_reason="stop"))
    exchange.write(b"data: [DONE]\n\n")
    return exchange.end()


def drip(exchange: Exchange, argument: str) -> bool:
    """Send one byte every N seconds, 1 by default."""
    exchange.head()
    for token in exchange.tokens():
        for byte in b"data: " + json.dumps(exchange.chunk({"content": token})).encode() + b"\n\n":
            exchange.sleep(float(argument or 1))
            exchange.send(bytes([byte]))
    return exchange.hang()


def endless(exchange: Exchange, _: str) -> bool:
    """Send tokens at the rate ``r``, or twenty in each write without one, forever."""
    exchange.head()
    tokens = exchange.rendered(exchange.chunk({"content": "more "})) * (1 if "r" in exchange.spec else 20)
    number = 0
    while True:
        number += 1
        exchange.pause(number)
        exchange.write(tokens)


def reset_after(exchange: Exchange, argument: str) -> bool:
    """Send N tokens, then reset the connection."""
    exchange.begin(argument)
    if argument:
        time.sleep(0.05)  # a reset discards what the client has not read yet
    exchange.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_OFF)
    return False


def cut_after(exchange: Exchange, argument: str) -> bool:
    """Send N tokens, then close the connection within the body."""
    exchange.begin(argument)
    return False


def end_after(exchange: Exchange, argument: str) -> bool:
    """Send N tokens, then end the body cleanly: no finish reason, no ``[DONE]``."""
    exchange.begin(argument)
    return exchange.end()


def no_reason(exchange: Exchange, argument: str) -> bool:
    """Send N tokens and ``[DONE]`` without a finish reason."""
    exchange.begin(argument)
    exchange.write(b"data: [DONE]\n\n")
    return exchange.end()


def no_done(exchange: Exchange, _: str) -> bool:
    """Send the whole reply with its finish reason, without usage and ``[DONE]``, as some providers do."""
    exchange.begin("9999")
    exchange.event(exchange.chunk({}, finish_reason="stop"))
    return exchange.end()


def finish_error(exchange: Exchange, argument: str) -> bool:
    """Send N tokens and the finish reason ``error``."""
    exchange.begin(argument)
    exchange.event(exchange.chunk({}, finish_reason="error"))
    exchange.write(b"data: [DONE]\n\n")
    return exchange.end()


def bad_utf8(exchange: Exchange, argument: str) -> bool:
    """Send N tokens, then text that is not UTF-8."""
    exchange.begin(argument)
    exchange.write(b'data: {"choices":[{"delta":{"content":"\xff\xfe\xe4\xb8"}}]}\n\n')
    return exchange.hang()


def malformed(exchange: Exchange, argument: str) -> bool:
    """Send N tokens, then invalid JSON."""
    exchange.begin(argument)
    exchange.write(b'data: {"choices":[{"delta":\n\n')
    return exchange.hang()


def nested(exchange: Exchange, argument: str) -> bool:
    """Send N tokens, then JSON that is 100,000 arrays deep."""
    exchange.begin(argument)
    exchange.write(b'data: {"choices":' + b"[" * 100_000 + b"\n\n")
    return exchange.hang()


def lone_half(exchange: Exchange, argument: str) -> bool:
    """Send N tokens, a lone surrogate, and a proper end."""
    exchange.begin(argument)
    for half in ("\\ud83d", "x", "\\ude00", "\\ud83d"):
        exchange.write(b'data: {"choices":[{"delta":{"content":"%b"}}]}\n\n' % half.encode())
    exchange.event(exchange.chunk({}, finish_reason="stop"))
    exchange.write(b"data: [DONE]\n\n")
    return exchange.end()


def long_line(exchange: Exchange, argument: str) -> bool:
    """Send N tokens, then a line of 10 MB."""
    exchange.begin(argument)
    exchange.write(b"data: ")
    for _ in range(160):
        exchange.send(b"x" * 65536)
    return exchange.hang()


def html(exchange: Exchange, _: str) -> bool:
    """Answer 200 with an HTML page."""
    page = f"<!doctype html><title>{exchange.told('Welcome to the proxy')}</title>"
    return exchange.whole(page.encode(), kind="text/html; charset=utf-8")


def gzip_bomb(exchange: Exchange, _: str) -> bool:
    """Answer with 64 MB of zeros, compressed unasked."""
    body = _bomb()
    exchange.head(**{"Content-Encoding": "gzip", "Content-Length": str(len(body))})
    exchange.raw(body)
    return True


def error_after(exchange: Exchange, argument: str) -> bool:
    """Send N tokens, then an in-band error; ``N:429`` gives it a code."""
    count, _, code = argument.partition(":")
    exchange.begin(count)
    exchange.event(
        {"error": {"message": exchange.told("Scripted failure in band."), "type": "server_error", "code": code or None}}
    )
    return exchange.hang()


def error_event(exchange: Exchange, argument: str) -> bool:
    """Send N tokens, then an event named ``error``."""
    exchange.begin(argument)
    said = json.dumps({"message": exchange.told("Scripted failure in an event.")})
    exchange.write(f"event: error\ndata: {said}\n\n".encode())
    return exchange.hang()


def detail_after(exchange: Exchange, argument: str) -> bool:
    """Send N tokens, then ``{"detail": …}``."""
    exchange.begin(argument)
    exchange.event({"detail": exchange.told("Scripted failure in detail.")})
    return exchange.hang()


def json_error(exchange: Exchange, _: str) -> bool:
    """Answer 200 with an error object."""
    said = {"message": exchange.told("Scripted failure in JSON."), "type": "authentication_error"}
    return exchange.whole(json.dumps({"error": said}).encode())


def long_json(exchange: Exchange, _: str) -> bool:
    """Answer 200 with 10 MB of JSON."""
    return exchange.whole(b'{"choices": [{"message": {"content": "' + b"x" * 10_000_000 + b'"}}]}')


def not_http(exchange: Exchange, _: str) -> bool:
    """Answer in another protocol."""
    exchange.raw(b"SSH-2.0-OpenSSH_9.9\r\n" * 10)
    return False


def bad_chunk(exchange: Exchange, argument: str) -> bool:
    """Send N tokens, then a chunk with an invalid size."""
    exchange.begin(argument)
    exchange.raw(b"zz\r\nwhat\r\n")
    return False


@cache
def _bomb() -> bytes:
    return gzip.compress(bytes(64 * 1024 * 1024), compresslevel=1)


def answer(exchange: Exchange, name: str) -> bool:
    """Send one of `tests.answers.ANSWERS`, and close the connection."""
    exchange.raw(ANSWERS[name].raw)
    return False

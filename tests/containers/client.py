"""Send requests from inside a container's network: `client.py stream|get TARGET KEY …`. It needs only Python.

TARGET is unix:PATH or HOST:PORT. ``stream N SECONDS`` holds N streams at once. It prints "open" when all have begun,
and at the end the number of complete ones and the time of the last end (`time.monotonic`). ``get PATH N`` sends N
requests in turn, and prints their statuses.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
import uuid
from collections.abc import Awaitable, Callable

SECONDS = 300.0
PATIENCE = 60.0  # seconds until a request counts as hung
PAUSE_S = 0.01
WORDS_S = 50  # words of the demo model in a second; it repeats the question and adds a few words


async def connect(target: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection."""
    if target.startswith("unix:"):
        return await asyncio.open_unix_connection(target.removeprefix("unix:"))
    host, _, port = target.rpartition(":")
    return await asyncio.open_connection(host, int(port))


def head(method: str, path: str, key: str, *more: str) -> bytes:
    """Return a request's head."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {key}", *more, "", ""]
    return "\r\n".join(lines).encode()


async def stream(target: str, key: str, seconds: int, begun: Callable[[], None]) -> bool:
    """Hold one stream. Return whether it was complete."""
    body = json.dumps({"message": f"{uuid.uuid4()} {'字' * WORDS_S * seconds}", "stream": True}).encode()
    reader, writer = await connect(target)
    writer.write(
        head("POST", "/api/chat", key, "Content-Type: application/json", f"Content-Length: {len(body)}") + body
    )
    got = b""
    while not got.endswith(b"\r\n0\r\n\r\n"):
        piece = await reader.read(65536)
        if not piece:
            break
        if b"event: delta" not in got and b"event: delta" in got + piece:
            begun()
        got += piece
    writer.close()
    return b"event: done" in got and b'"status":"completed"' in got


async def streams(target: str, key: str, number: str, seconds: str) -> None:
    """Hold streams, and print the number of complete ones."""
    waiting = int(number)

    def begun() -> None:
        nonlocal waiting
        waiting -= 1
        if not waiting:
            print("open", flush=True)  # noqa: T201 - its report

    each = (stream(target, key, int(seconds), begun) for _ in range(int(number)))
    ended = await asyncio.gather(*each, return_exceptions=True)
    print(sum(one is True for one in ended), time.monotonic())  # noqa: T201 - its report


async def get(target: str, key: str, path: str, number: str) -> None:
    """Send each request on a new connection, and print its status, 0 for a timeout."""
    for _ in range(int(number)):
        print(await asked(target, key, path), flush=True)  # noqa: T201 - its report
        await asyncio.sleep(PAUSE_S)


async def asked(target: str, key: str, path: str) -> int:
    """Return the status of a response, 0 for a timeout."""
    try:
        async with asyncio.timeout(PATIENCE):
            reader, writer = await connect(target)
            writer.write(head("GET", path, key, "Connection: close"))
            answer = await reader.read()
            writer.close()
    except OSError:
        return 0
    return int(answer.split()[1])


COMMANDS: dict[str, Callable[..., Awaitable[None]]] = {"stream": streams, "get": get}

if __name__ == "__main__":
    asyncio.run(asyncio.wait_for(COMMANDS[sys.argv[1]](*sys.argv[2:]), SECONDS))

"""Deltas straight to a socket: in a process of its own, for gevent patches everything."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
from gevent import monkey
monkey.patch_all()
import gevent, queue, socket, uuid
from chatkeep.server.gunicorn_exchange import Corked
from chatkeep.domain.conversation import Delta
from chatkeep.turns.live import End
from chatkeep.web.schemas import chat as schemas
from chatkeep.web.direct import DirectEvents
from chatkeep.web.sse import SSEEncoder

ours, theirs = socket.socketpair()
ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
start = schemas.Start(uuid.uuid4(), uuid.uuid4(), "m", False)
wanted, frames = SSEEncoder(start, request_id="r"), SSEEncoder(start, request_id="r")
deltas = [Delta(f"{number} 你好" * 40) for number in range(400)]
expected = [wanted.of(delta) for delta in deltas]
frames.is_begun = True
corked = Corked(ours)
corked.sendall(b"head")
events = DirectEvents(corked, frames)
woken = []

def stream():
    while True:
        event = events.get(timeout=5)
        if isinstance(event, End):
            break
        woken.append(event)
        frame = frames.of(event)
        corked.sendall(b"%x\\r\\n%b\\r\\n" % (len(frame), frame))
    corked.sendall(b"0\\r\\n\\r\\n")
    corked.uncork()
    ours.shutdown(socket.SHUT_WR)

def bring():
    for number, delta in enumerate(deltas):
        events.put(delta)
        if number % 10 == 0:
            gevent.sleep(0.001)
    events.put(End(None))

greenlets = [gevent.spawn(stream), gevent.spawn(bring)]
got = b""
while piece := theirs.recv(3000):
    got += piece
    gevent.sleep(0.0005)  # slower than they come
gevent.joinall(greenlets, raise_error=True)
sent = b"".join(b"%x\\r\\n%b\\r\\n" % (len(frame), frame) for frame in expected)
assert got == b"head" + sent + b"0\\r\\n\\r\\n", (len(got), len(sent))
assert 0 < len(woken) < len(deltas), len(woken)  # both ways were gone

events = DirectEvents(Corked(ours), frames)
try:
    events.get(timeout=0.05)
except queue.Empty:
    pass
else:
    raise AssertionError("nothing came")

theirs.close()
ours, theirs = socket.socketpair()
corked = Corked(ours)
corked.sendall(b"head")
corked.uncork()
events = DirectEvents(corked, frames)
waiting = gevent.spawn(events.get, timeout=5)
gevent.sleep(0.01)
theirs.close()
events.put(Delta("into the void"))
waiting.join(1)
assert isinstance(waiting.exception, OSError), waiting
"""


@pytest.mark.posix("gunicorn serves on Linux and macOS")
def test_a_slow_client_gets_all_in_order_and_a_gone_one_is_noticed() -> None:
    """Takes a second: a process of its own, and a reader that dawdles."""
    subprocess.run([sys.executable, "-W", "error::RuntimeWarning", "-c", SCRIPT], check=True, timeout=60)

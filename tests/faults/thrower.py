"""A process that sends turns to one conversation: ``python -m tests.faults.thrower PORT CONVERSATION COUNT NAME``.

It prints, as JSON, how often each HTTP status came back, and the ids of the replies.
"""

from __future__ import annotations

import http.client
import json
import sys
from collections import Counter


def main(port: str, conversation: str, count: str, name: str) -> None:
    """Send one turn after the other."""
    statuses: Counter[int] = Counter()
    taken: dict[str, str] = {}
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=60)
    for number in range(int(count)):
        message = f"{name}.{number}"
        body = json.dumps({"message": message, "conversation_id": conversation})
        connection.request("POST", "/api/chat", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        told = json.loads(response.read())
        statuses[response.status] += 1
        if response.status == 200:
            taken[told["message_id"]] = message
    print(json.dumps({"statuses": statuses, "taken": taken}))  # noqa: T201 - a program


if __name__ == "__main__":
    main(*sys.argv[1:])

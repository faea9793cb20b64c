"""A small client of WebDriver (W3C), for browsers that Playwright does not drive."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from tests.client import request
from tests.http.api import eventually
from tests.ports import is_listening

KEYS = {"Enter": "\ue007"}
SECONDS = 60


class WebDriver:
    """One session of a driver's process; use it as a context manager."""

    def __init__(self, command: Sequence[str], port: int, capabilities: Any, env: Mapping[str, str]) -> None:
        self._command = command
        self._port = port
        self._url = f"http://127.0.0.1:{port}/session"
        self._wanted = {"capabilities": {"alwaysMatch": capabilities}}
        self._env = env

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command,
            env=os.environ | self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            assert eventually(lambda: is_listening(self._port), SECONDS)
            session = self._call("POST", "", self._wanted)
        except BaseException:
            self._end()
            raise
        self._url += f"/{session['sessionId']}"
        self.version: str = session["capabilities"]["browserVersion"]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self._call("DELETE", "")
        finally:
            self._end()

    def go(self, url: str) -> None:
        """Open a page and wait until it has loaded."""
        self._call("POST", "/url", {"url": url})

    def run(self, script: str, *arguments: Any) -> Any:
        """Return what an async function of this body returns."""
        body = (
            f"const done = arguments[arguments.length - 1];"
            f"(async (...args) => {{ {script} }})(...Array.from(arguments).slice(0, -1))"
            f".then((value) => done({{ value }}), (error) => done({{ error: String(error) }}));"
        )
        answer = self._call("POST", "/execute/async", {"script": body, "args": arguments})
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer.get("value")

    def click(self, selector: str) -> None:
        """Click the first element."""
        self._call("POST", f"/element/{self._find(selector)}/click", {})

    def write(self, selector: str, text: str) -> None:
        """Type text, and keys by their names, into the first element."""
        self._call("POST", f"/element/{self._find(selector)}/value", {"text": KEYS.get(text, text)})

    def screenshot(self) -> bytes:
        """Return what is seen, as PNG."""
        return base64.b64decode(self._call("GET", "/screenshot"))

    def _find(self, selector: str) -> str:
        found = self._call("POST", "/element", {"using": "css selector", "value": selector})
        return str(next(iter(found.values())))

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        response = request(method, self._url + path, json=body, timeout=SECONDS)
        value = response.json["value"]
        if response.status != 200:
            raise RuntimeError(f"{method} {path}: {value['error']}: {value['message']}")
        return value

    def _end(self) -> None:
        os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:  # the first process of a namespace hears nothing else
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

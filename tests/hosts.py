"""Follow docs/deployment.md literally on an empty Debian with systemd and nginx: `./dev hosts`.

Then reload and stop the service during streams, and start it with a wrong setting. Needs root. The first run makes the
machine's folder, which takes minutes. Each run downloads the packages that chatkeep requires.
"""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.load import CACHE
from tests import client
from tests.auth.keys import bearer
from tests.docs.handbook import ENGLISH, on_a_host
from tests.faults.crowd import Crowd
from tests.servers import ROOT
from tests.services.machine import Machine, children
from tests.upstream import Upstream, reply_to

CHECKOUT, WHEELS = "/srv/chatkeep", CACHE.parent / "hosts" / "wheels"
ENVIRONMENT = "/etc/chatkeep/chatkeep.env"
ADMIN = "chatkeep-admin"
URL = "http://127.0.0.1"
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", ".*_cache", "build", "data", "tests", "bench", "__pycache__")
GIVES_UP_S = 120.0
RATE = 10  # tokens a second


@dataclass(frozen=True, slots=True)
class Scale:
    """The number of deploys, and the load during each.

    Old workers continue until new ones have booted, and keep idle connections for three more seconds. If the delay
    after the last stream is checked, streams last longer.
    """

    rounds: int
    streams: int
    seconds: int
    late: float


SHORT, LONG = Scale(2, 20, 6, math.inf), Scale(20, 100, 15, 1.0)


def main(*arguments: str) -> int:
    """Follow the page and check the result. Return 0 if every check passes."""
    scale = LONG if "--long" in arguments else SHORT
    fetch_packages()
    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "chatkeep"
        shutil.copytree(ROOT, source, ignore=LEFT_OUT)
        with Machine({CHECKOUT: source, "/srv/wheels": WHEELS}) as machine:
            machine.share_network()
            with Upstream() as provider:
                host = Host(machine, provider)
                host.follow_handbook()
                host.check("the service's key", host.take_key)
                host.check("other users can't connect to the socket", host.keep_others_out)
                for how in ("reload", "stop"):
                    host.check(
                        f"{scale.rounds} times {how} during {scale.streams} streams", partial(host.deploy, how, scale)
                    )
                host.check("a rotated log", host.look_at_log)
                host.check("a wrong setting", host.give_up)
    return host.failed


class Host:
    """A machine that is set up by the page's commands."""

    def __init__(self, machine: Machine, provider: Upstream) -> None:
        self._machine = machine
        self._provider = provider
        self._key = ""
        self.failed = 0

    def check(self, name: str, work: Callable[[], object]) -> None:
        """Run a check, and print its result."""
        begun = time.monotonic()
        try:
            work()
        except AssertionError as error:
            self.failed = 1
            say(f"FAIL  {name}: {error}\n{self.run('journalctl --unit=chatkeep --no-pager | tail -n 40')}")
        else:
            say(f"ok    {name} ({time.monotonic() - begun:.1f} s)")

    def run(self, script: str, *, fails: bool = False) -> str:
        env = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/srv/wheels", "PIP_QUIET": "1"}
        return self._machine.run(script, folder=CHECKOUT, env=env, fails=fails)

    def follow_handbook(self) -> None:
        """Run the page's commands in order. Set the provider's address as the page says."""
        for block in on_a_host(ENGLISH):
            self.check(block.splitlines()[0], partial(self.run, block))
            if ENVIRONMENT in block:
                self.change("OPENAI_BASE_URL", self._provider.url)
                self.change("WEB_CONCURRENCY", "2")

    def change(self, name: str, value: str) -> None:
        """Change a setting."""
        self.run(f"sed --in-place '/^{name}=/d' {ENVIRONMENT}; echo '{name}={value}' >> {ENVIRONMENT}")

    def take_key(self) -> None:
        """Create a key as the service, and use it through nginx."""
        self._key = self.run(f"{ADMIN} keys create client").split()[-1]
        assert client.request("GET", f"{URL}/api/conversations").status == 401
        assert client.request("GET", f"{URL}/api/conversations", headers=bearer(self._key)).status == 200
        assert "<title>" in client.request("GET", f"{URL}/").text
        assert "ok    database         /var/lib/chatkeep/chatkeep.sqlite3 answers" in self.run(f"{ADMIN} doctor")
        assert "chatkeep-proxy" in self.run("ls -l /var/lib/chatkeep/chatkeep.sqlite3")

    def keep_others_out(self) -> None:
        """Check that nginx's user can connect to the socket, and other users can't."""
        asks = "curl --fail --silent --unix-socket /run/chatkeep/chatkeep.sock http://localhost/health/live"
        for user, connects in [("www-data", True), ("nobody", False)]:
            self.run(f"setpriv --reuid={user} --regid={user.replace('nobody', 'nogroup')} --init-groups {asks}",
                     fails=not connects)  # fmt: skip

    def deploy(self, how: str, scale: Scale) -> None:
        """Reload or stop during streams through nginx. All streams must be complete, and no later request hangs."""
        late = [self._deploy_once(f"{how} {number}", scale, how) for number in range(scale.rounds)]
        say(f"      old processes ended {min(late):.2f} to {max(late):.2f} s after the last stream")
        assert max(late) <= scale.late, late
        told = self.run("systemctl show chatkeep --property=Result,NRestarts")
        assert set(told.split()) == {"Result=success", "NRestarts=0"}, told

    def _deploy_once(self, name: str, scale: Scale, how: str) -> float:
        """Return the seconds from the end of the last stream to the end of the old processes."""
        master = self._machine.outside(int(self.run("systemctl show chatkeep --property=MainPID --value")))
        with Crowd(80, stays=True, headers=f"Authorization: Bearer {self._key}\r\n") as crowd:
            for stream in range(scale.streams):
                crowd.ask(f"{name}, stream {stream} #n={scale.seconds * RATE},r={RATE},seed={stream}#")
            assert crowd.wait_for_start(60), "not every stream began"
            old = [*children(master), *([master] if how == "stop" else [])]
            self.run(f"systemctl --no-block {how} chatkeep")
            while any(Path(f"/proc/{pid}").exists() for pid in old):
                time.sleep(0.02)
            ended = time.monotonic()
            assert crowd.wait_for_end(60), "a stream did not end"
            for listener in crowd.listeners:
                seen, _ = listener.parsed()
                assert (seen.text, seen.status) == (reply_to(listener.message), "completed"), listener.message
        if how == "stop":
            told = self.run("systemctl stop chatkeep; systemctl show chatkeep --property=ExecMainStatus,ActiveState")
            assert set(told.split()) == {"ExecMainStatus=0", "ActiveState=inactive"}, told
            self.run("systemctl start chatkeep")
        for _ in range(40):
            answer = client.request("GET", f"{URL}/api/conversations", headers=bearer(self._key), timeout=20)
            assert answer.status == 200, answer.text
        return ended - crowd.heard

    def look_at_log(self) -> None:
        """Find earlier lines in the rotated file, and later lines in the new one."""
        client.request("POST", f"{URL}/api/chat", json={"message": "Hello #status=400#"}, headers=bearer(self._key))
        self.run("grep --quiet 'Starting gunicorn' /var/log/chatkeep/chatkeep.log.1")
        self.run("grep --quiet 'ProviderRefused 400' /var/log/chatkeep/chatkeep.log")

    def give_up(self) -> None:
        """Use a wrong setting. systemd must stop retrying after a while."""
        self.run("mkdir -p /etc/systemd/system/chatkeep.service.d")
        self.run("printf '[Service]\\nRestartSec=100ms\\n' > /etc/systemd/system/chatkeep.service.d/fast.conf")
        self.change("CHATKEEP_MAX_BODY", "enormous")
        self.run("systemctl daemon-reload; systemctl restart chatkeep", fails=True)
        deadline = time.monotonic() + GIVES_UP_S
        while "failed" not in (told := self.run("systemctl show chatkeep --property=ActiveState,NRestarts")):
            assert time.monotonic() < deadline, f"systemd still restarts it: {told}"
            time.sleep(1)
        assert "CHATKEEP_MAX_BODY" in self.run("journalctl --unit=chatkeep --no-pager")
        answer = client.request("GET", f"{URL}/api/conversations")
        assert (answer.status, answer.json["code"]) == (503, "server_stopping")


def fetch_packages() -> None:
    """Download the page's packages for a machine without a network."""
    for wanted in (["--require-hashes", "--requirement", str(ROOT / "requirements.txt")], ["hatchling>=1.27"]):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", "--dest", str(WHEELS)]
        subprocess.run([*command, *wanted], check=True)


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

"""Follow the handbook on an empty Debian with systemd: install, settings, service, nginx, to the letter: `./dev hosts`.

Then streams go through nginx amid reloads and stops, and a wrong setting stops the service. As root; the first time it
makes the machine's folder (some minutes), and it fetches the packages that chatkeep requires.
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
    """How often deploys are tried, and amid what.

    Old workers go on until new ones have booted, seconds on a busy machine, and keep idle connections for three more.
    Where the seconds after the last stream are judged, streams last longer.
    """

    rounds: int
    streams: int
    seconds: int
    late: float


SHORT, LONG = Scale(2, 20, 6, math.inf), Scale(20, 100, 15, 1.0)


def main(*arguments: str) -> int:
    """Follow the handbook and check what came of it; return 0 if all is well."""
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
                host.check("nobody else reaches the socket", host.keep_others_out)
                for how in ("reload", "stop"):
                    host.check(
                        f"{scale.rounds} times {how} amid {scale.streams} streams", partial(host.deploy, how, scale)
                    )
                host.check("a log that logrotate moved away", host.look_at_log)
                host.check("a wrong setting", host.give_up)
    return host.failed


class Host:
    """A machine on which the handbook is followed."""

    def __init__(self, machine: Machine, provider: Upstream) -> None:
        self._machine = machine
        self._provider = provider
        self._key = ""
        self.failed = 0

    def check(self, name: str, work: Callable[[], object]) -> None:
        """Do something, and say whether it went well."""
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
        """Run the page's commands in their order, with the provider's address filled in as the page says."""
        for block in on_a_host(ENGLISH):
            self.check(block.splitlines()[0], partial(self.run, block))
            if ENVIRONMENT in block:
                self.change("OPENAI_BASE_URL", self._provider.url)
                self.change("WEB_CONCURRENCY", "2")

    def change(self, name: str, value: str) -> None:
        """Give a setting another value."""
        self.run(f"sed --in-place '/^{name}=/d' {ENVIRONMENT}; echo '{name}={value}' >> {ENVIRONMENT}")

    def take_key(self) -> None:
        """Make a key as the service, and come in with it through nginx."""
        self._key = self.run(f"{ADMIN} keys create client").split()[-1]
        assert client.request("GET", f"{URL}/api/conversations").status == 401
        assert client.request("GET", f"{URL}/api/conversations", headers=bearer(self._key)).status == 200
        assert "<title>" in client.request("GET", f"{URL}/").text
        assert "ok    database         /var/lib/chatkeep/chatkeep.sqlite3 answers" in self.run(f"{ADMIN} doctor")
        assert "chatkeep-proxy" in self.run("ls -l /var/lib/chatkeep/chatkeep.sqlite3")

    def keep_others_out(self) -> None:
        """Let nginx's user reach the socket, and no other one."""
        asks = "curl --fail --silent --unix-socket /run/chatkeep/chatkeep.sock http://localhost/health/live"
        for user, gets_in in [("www-data", True), ("nobody", False)]:
            self.run(f"setpriv --reuid={user} --regid={user.replace('nobody', 'nogroup')} --init-groups {asks}",
                     fails=not gets_in)  # fmt: skip

    def deploy(self, how: str, scale: Scale) -> None:
        """Reload or stop amid streams through nginx: all are whole, and nothing hangs afterwards."""
        late = [self._deploy_once(f"{how} {number}", scale, how) for number in range(scale.rounds)]
        say(f"      what was replaced was gone {min(late):.2f} to {max(late):.2f} s after the last stream")
        assert max(late) <= scale.late, late
        told = self.run("systemctl show chatkeep --property=Result,NRestarts")
        assert set(told.split()) == {"Result=success", "NRestarts=0"}, told

    def _deploy_once(self, name: str, scale: Scale, how: str) -> float:
        """Return how many seconds after the last stream the old processes were gone."""
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
            assert crowd.wait_for_end(60), "a stream has no end"
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
        """Find what was logged before the handbook's rotation in the old file, and what came later in a new one."""
        client.request("POST", f"{URL}/api/chat", json={"message": "Hello #status=400#"}, headers=bearer(self._key))
        self.run("grep --quiet 'Starting gunicorn' /var/log/chatkeep/chatkeep.log.1")
        self.run("grep --quiet 'ProviderRefused 400' /var/log/chatkeep/chatkeep.log")

    def give_up(self) -> None:
        """Set something wrong: systemd tries it again for a while, and then no more."""
        self.run("mkdir -p /etc/systemd/system/chatkeep.service.d")
        self.run("printf '[Service]\\nRestartSec=100ms\\n' > /etc/systemd/system/chatkeep.service.d/fast.conf")
        self.change("CHATKEEP_MAX_BODY", "enormous")
        self.run("systemctl daemon-reload; systemctl restart chatkeep", fails=True)
        deadline = time.monotonic() + GIVES_UP_S
        while "failed" not in (told := self.run("systemctl show chatkeep --property=ActiveState,NRestarts")):
            assert time.monotonic() < deadline, f"it is started again and again: {told}"
            time.sleep(1)
        assert "CHATKEEP_MAX_BODY" in self.run("journalctl --unit=chatkeep --no-pager")
        answer = client.request("GET", f"{URL}/api/conversations")
        assert (answer.status, answer.json["code"]) == (503, "server_stopping")


def fetch_packages() -> None:
    """Fetch what the handbook's pip installs, for a machine without a network."""
    for wanted in (["--require-hashes", "--requirement", str(ROOT / "requirements.txt")], ["hatchling>=1.27"]):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", "--dest", str(WHEELS)]
        subprocess.run([*command, *wanted], check=True)


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

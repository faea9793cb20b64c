"""Run a few failed tests once more, alone. Those that pass are reported, and do not fail the run.

A plugin of `./dev test`: of ten thousand tests on a busy machine, one may fail for want of time.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator

import pytest

MOST = 5  # more failures are not a coincidence


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None]:
    """Run them after the workers of pytest-xdist have ended, and before the summary."""
    yield
    if hasattr(session.config, "workerinput"):
        return  # each worker of pytest-xdist also ends a session
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    if terminal and session.exitstatus == pytest.ExitCode.TESTS_FAILED:
        failed = [report for outcome in ("failed", "error") for report in terminal.stats.get(outcome, [])]
        if _pass_alone(failed, session.config):
            terminal.stats["unsteady"] = terminal.stats.pop("failed", []) + terminal.stats.pop("error", [])
            session.exitstatus = pytest.ExitCode.OK


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show why unsteady tests failed, and name them."""
    unsteady = terminalreporter.stats.get("unsteady", [])
    if unsteady:
        terminalreporter.section("UNSTEADY", sep="!", yellow=True, bold=True)
    for report in unsteady:
        for title, text in [(report.nodeid, report.longreprtext), *report.sections]:
            terminalreporter.write_sep("_", title)
            terminalreporter.write_line(text)
    for name in dict.fromkeys(report.nodeid for report in unsteady):
        terminalreporter.write_line(f"UNSTEADY {name} failed among the others, and passed alone")


def _pass_alone(failed: list[pytest.TestReport | pytest.CollectReport], config: pytest.Config) -> bool:
    """Return whether these are few tests that all pass now, in a row in one process."""
    names = list(dict.fromkeys(report.nodeid for report in failed))
    if len(names) > MOST or any(isinstance(report, pytest.CollectReport) for report in failed):
        return False
    again = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *names]
    return subprocess.run(again, cwd=config.rootpath, check=False).returncode == pytest.ExitCode.OK

"""What `./dev windows` counts of its tests."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.windows.suite import outcomes, table

RESULTS = """<testsuites><testsuite>
<testcase name="a"/>
<testcase name="b"><failure message="no"/></testcase>
<testcase name="c"><failure message="no"/><error message="no, either"/></testcase>
<testcase name="d"><skipped message="no sockets">test_x.py:1: no sockets</skipped></testcase>
<testcase name="e"><skipped message="collection skipped">('C:\\\\y.py', 14, 'Skipped: no forks')</skipped></testcase>
</testsuite></testsuites>"""


def test_tests_are_counted_by_outcome_and_reason(tmp_path: Path) -> None:
    file = tmp_path / "results.xml"
    file.write_text(RESULTS, encoding="utf-8")
    counted = outcomes(file)
    assert counted == Counter(passed=1, failed=2) + Counter(["skipped: no forks", "skipped: no sockets"])
    assert table({"web": counted}) == (
        "web: 1 passed, 2 failed, 2 skipped\n    1 skipped: no forks\n    1 skipped: no sockets\n"
    )

"""The alerts and the dashboard in deploy/: promtool accepts them, alerts fire, and their metrics exist."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

if os.name == "nt":
    pytest.skip("promtool is unpacked from a package of Debian", allow_module_level=True)

from bench.load import CACHE
from tests.client import request
from tests.docs.handbook import ENGLISH, blocks
from tests.http.api import eventually
from tests.servers import ROOT, Server, thrown_away
from tests.services import debian

RULES = ROOT / "deploy" / "prometheus" / "chatkeep.rules.yaml"
BOARD = ROOT / "deploy" / "grafana" / "chatkeep.json"
CASES = """
rule_files: [{rules}]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - {{series: 'up{{job="chatkeep",instance="one"}}', values: '1x10 0x20'}}
      - {{series: 'chatkeep_http_requests_total{{route="/",status="200"}}', values: '0+90x30'}}
      - {{series: 'chatkeep_http_requests_total{{route="/",status="503"}}', values: '0+10x30'}}
      - {{series: 'chatkeep_turns_total{{status="completed"}}', values: '0+99x30'}}
      - {{series: 'chatkeep_turns_total{{status="failed"}}', values: '0+1x30'}}
      - {{series: 'chatkeep_loop_stalls_total', values: '0x20 1x10'}}
      - {{series: 'chatkeep_first_token_seconds_bucket{{le="10"}}', values: '0+1x30'}}
      - {{series: 'chatkeep_first_token_seconds_bucket{{le="30"}}', values: '0+100x30'}}
      - {{series: 'chatkeep_first_token_seconds_bucket{{le="+Inf"}}', values: '0+100x30'}}
    promql_expr_test:
      - expr: count by (alertname) (ALERTS{{alertstate="firing"}})
        eval_time: 9m
        exp_samples: [{{labels: '{{alertname="ChatkeepErrors"}}', value: 1}}]
      - expr: count by (alertname) (ALERTS{{alertstate="firing"}})
        eval_time: 25m
        exp_samples:
          - {{labels: '{{alertname="ChatkeepDown"}}', value: 1}}
          - {{labels: '{{alertname="ChatkeepErrors"}}', value: 1}}
          - {{labels: '{{alertname="ChatkeepLoopStalls"}}', value: 1}}
          - {{labels: '{{alertname="ChatkeepSlowFirstToken"}}', value: 1}}
"""


@pytest.fixture(scope="module")
def promtool() -> str:
    """The path of promtool. If it is missing, the package is unpacked, because installing it starts a service."""
    if found := shutil.which("promtool"):
        return found
    program = CACHE / "prometheus" / "usr" / "bin" / "promtool"
    with debian.lock():
        if not program.exists():
            debian.unpack(CACHE / "prometheus", "prometheus")
    if not program.exists():
        pytest.skip("promtool is not installed and could not be fetched (apt-get download prometheus)")
    return str(program)


def run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_accepts_the_rules_and_they_fire(promtool: str, tmp_path: Path) -> None:
    run(promtool, "check", "rules", RULES)
    (tmp_path / "cases.yaml").write_text(CASES.format(rules=RULES))
    run(promtool, "test", "rules", tmp_path / "cases.yaml")


def test_prometheus_accepts_the_documented_configuration(promtool: str, tmp_path: Path) -> None:
    [scraping] = blocks(ENGLISH, "yaml")
    shutil.copy(RULES, tmp_path)
    (tmp_path / "prometheus.yaml").write_text(scraping)
    run(promtool, "check", "config", "--syntax-only", tmp_path / "prometheus.yaml")


def test_every_metric_in_use_is_exported(tmp_path: Path) -> None:
    """Starts a server, and waits until it has stored its counters: seconds."""
    board = json.loads(BOARD.read_text(encoding="utf-8"))
    expressions = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    named = set(re.findall(r"\bchatkeep_\w+", " ".join([RULES.read_text(encoding="utf-8"), *expressions])))
    assert len(named) > 10
    with thrown_away(Server("flask", tmp_path)) as server:

        def missing() -> set[str]:
            told = request("GET", f"{server.url}/metrics").text
            exported = set(re.findall(r"(?m)^(chatkeep_\w+)", told))
            return named - exported

        assert eventually(lambda: not missing(), 60), missing()

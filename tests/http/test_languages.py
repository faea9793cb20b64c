"""Problems use the caller's language, and commands the terminal's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlencode

import pytest

from chatkeep.i18n import Text, translated
from tests.http.api import Api, soon, unique
from tests.servers import ROOT

CHINESE = {"Accept-Language": "zh-CN,zh;q=0.9,en;q=0.8"}
MISSING = "/api/conversations/01a202d1-2a30-79d4-9bd7-fd298a4c908a"


def in_chinese(message: str) -> str:
    return translated(Text(message), "zh")


def test_problem_uses_the_accepted_language(own: Api) -> None:
    english, chinese = (own.request("GET", MISSING, headers=headers) for headers in ({}, CHINESE))
    assert chinese.json["title"] == in_chinese(english.json["title"])
    assert chinese.json["detail"] == in_chinese(english.json["detail"])
    assert (english.json["code"], chinese.json["code"]) == ("not_found", "not_found")
    assert (english.headers["Content-Language"], chinese.headers["Content-Language"]) == ("en", "zh")


def test_field_errors_are_translated(own: Api) -> None:
    answer = own.request("POST", "/api/chat", json={"message": "x", "role": "system"}, headers=CHINESE)
    assert answer.json["errors"] == [{"field": "role", "message": in_chinese("is unknown")}]


@pytest.mark.parametrize("place", ["body", "query"])
def test_long_name_is_translated_quickly(own: Api, place: str) -> None:
    """A worker that spends seconds on an answer stops every stream."""
    name = (" added,  there already,  brought up to date,  deleted" * 60)[:3000]
    if place == "body":
        answer = soon(0.5, lambda: own.request("POST", "/api/sign-in", json={"key": "x", name: 1}, headers=CHINESE))
    else:
        answer = soon(0.5, lambda: own.request("GET", f"/api/conversations?{urlencode({name: 1})}", headers=CHINESE))
    assert answer.json["errors"] == [{"field": f"{name[:63]}…", "message": in_chinese("is unknown")}]
    assert answer.json["detail"] == f"{name[:63]}…\uff1a{in_chinese('is unknown')}。"


def test_error_event_is_translated(own: Api) -> None:
    stream = own.streamed(unique("Hello #n=20,r=40,fault=cut_after:3#"), headers=CHINESE)
    assert stream.events[-1].event == "error"
    assert stream.events[-1].data["title"] == in_chinese("The model's provider failed")


@pytest.mark.parametrize(("locale", "text"), [("C", "Commands"), ("zh_CN.UTF-8", "删除过期的对话")])
def test_command_help_uses_the_terminal_language(locale: str, text: str, tmp_path: Path) -> None:
    """Starts a process: about half a second."""
    env = os.environ | {"LC_ALL": locale, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}
    command = [sys.executable, "-m", "chatkeep", "--help"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, encoding="utf-8", check=True)
    assert text in done.stdout

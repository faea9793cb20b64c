"""Sensitive text is masked alike in streams, rows, answers, exports and prompts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.client import SLOW, Response
from tests.conftest import serving
from tests.http.api import Api, asked, eventually, unique
from tests.http.sensitive_files import PHONE, own_export, talk
from tests.http.test_exports import export_command
from tests.servers import PAIRS, Server, thrown_away
from tests.upstream import Upstream, reply_to

MASKED = "[phone]"
SECRETS = f"手机{PHONE}、证件11010519491231002X、邮箱zhang.san@example.com、sk-proj-Ab1Ab1Ab1Ab1Ab1Ab1Ab1、代号猎鹰。"
SAFE = "手机[phone]、证件[id-card]、邮箱[email]、[api-key]、代号[word]。"
FORMATS = ["json", "csv", "ndjson", "md", "openai"]


def served(
    request: pytest.FixtureRequest, upstream: Upstream, folders: pytest.TempPathFactory, **policies: str
) -> Iterator[Api]:
    env = {
        "CHATKEEP_CACHE_SIZE": "1MiB",
        "CHATKEEP_REDACT_WORDS": "猎鹰",
        "CHATKEEP_REDACT_PATTERNS": '{"staff": "EMP-[0-9]{4}"}',
        **{f"CHATKEEP_REDACT_{place.upper()}": policy for place, policy in policies.items()},
    }
    with serving(request, upstream, folders, **env) as running:
        yield Api(running)


@pytest.fixture(scope="module", params=PAIRS, ids="-".join)
def masking(
    request: pytest.FixtureRequest, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Api]:
    """The API of a server that masks messages and replies."""
    yield from served(request, upstream, tmp_path_factory, input="mask", output="mask")


@pytest.fixture(scope="module", params=PAIRS, ids="-".join)
def answering(
    request: pytest.FixtureRequest, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Api]:
    """The API of a server that masks replies and exports, and accepts messages unchanged."""
    yield from served(request, upstream, tmp_path_factory, output="mask", export="mask")


@pytest.fixture(scope="module", params=PAIRS, ids="-".join)
def blocking(
    request: pytest.FixtureRequest, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Api]:
    """The API of a server that ends forbidden replies, and omits such texts from exports."""
    yield from served(request, upstream, tmp_path_factory, output="block", export="block")


@pytest.fixture(scope="module", params=PAIRS[::2], ids="-".join)  # refusing is the same for every server
def refusing(
    request: pytest.FixtureRequest, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Api]:
    """The API of a server that refuses messages with sensitive text."""
    yield from served(request, upstream, tmp_path_factory, input="block")


def exported(api: Api, conversation_id: str, name: str) -> str:
    response = api.request("GET", f"/api/conversations/{conversation_id}/export?format={name}")
    assert response.status == 200, api.server.log()
    return response.text


def test_messages_are_masked_before_they_are_stored_and_sent(masking: Api, upstream: Upstream) -> None:
    message = unique(SECRETS)
    fields = {"system": f"call {PHONE}", "metadata": {PHONE: [int(PHONE), 1, True, None, f"<{PHONE}>"]}}
    answer = masking.chat(message, **fields)
    conversation = masking.read(answer["conversation_id"])
    said = message.replace(SECRETS, SAFE)
    assert conversation["messages"]["data"][0]["content"] == said
    assert conversation["title"].startswith("手机[phone]、")
    assert conversation["system"] == "call [phone]"
    assert conversation["metadata"] == {MASKED: [MASKED, 1, True, None, f"<{MASKED}>"]}
    assert "13812345678" not in json.dumps(asked(upstream, said)[0].body, ensure_ascii=False)
    assert answer["reply"] == reply_to(said)


def test_long_text_is_masked(masking: Api) -> None:
    """A long text is checked outside the event loop."""
    answer = masking.chat(unique(f"{'字' * 50_000} {PHONE}"))
    assert masking.read(answer["conversation_id"])["messages"]["data"][0]["content"][50_000:].startswith(" [phone] ")


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("spec", ["", "#split#", "#think=3#"])
def test_replies_are_masked_in_every_output(answering: Api, spec: str, *, streamed: bool) -> None:
    message = unique(f"{SECRETS}{spec}")
    expected = reply_to(message).replace(SECRETS, SAFE)
    if streamed:
        stream = answering.streamed(message)
        conversation_id, text = stream.events[0].data["conversation_id"], stream.text
    else:
        answer = answering.chat(message)
        conversation_id, text = answer["conversation_id"], answer["reply"]
    stored = answering.last(conversation_id)
    assert (text, stored["content"], stored["status"]) == (expected, expected, "completed")
    assert (
        json.loads(exported(answering, conversation_id, "json"))["conversations"][0]["messages"][1]["content"] == text
    )
    followed = answering.followed({"conversation_id": conversation_id, "message_id": stored["id"]}, after=5)
    assert followed.text == expected[5:]


def test_cached_answer_is_masked(answering: Api) -> None:
    message = unique(SECRETS)
    first = answering.chat(message)
    again = [answering.chat(message) for _ in range(4)]  # each process has its own cache
    assert {one["reply"] for one in again} == {first["reply"]} == {reply_to(message).replace(SECRETS, SAFE)}
    assert any(one["cached"] for one in again)


def test_stream_holds_text_back_until_it_is_checked(answering: Api) -> None:
    """Takes a second: the reply is slow, so that each delta is sent alone."""
    stream = answering.streamed(unique("138 1234 5678, 138-1234 5678 and a@ example.com #r=20#"))
    seen = [event.data["text"] for event in stream.events if event.event == "delta"]
    assert len(seen) > 3
    for count in range(len(seen)):
        assert "138" not in "".join(seen[:count])


def test_forbidden_reply_ends_before_it_is_shown(blocking: Api) -> None:
    message = unique(f"请拨打 {PHONE} 或者再等等 #r=50#")
    stream = blocking.streamed(message)
    done = stream.events[-1]
    assert (stream.text, done.event) == ("You said: 请拨打 ", "done")
    assert (done.data["finish_reason"], done.data["status"]) == ("content_filter", "truncated")
    stored = blocking.last(stream.events[0].data["conversation_id"])
    assert (stored["content"], stored["status"], stored["error"]) == ("You said: 请拨打 ", "truncated", None)
    answer = blocking.chat(message)
    assert (answer["reply"], answer["finish_reason"], answer["cached"]) == (
        "You said: 请拨打 ",
        "content_filter",
        False,
    )


def test_copies_of_a_forbidden_reply_end_alike(blocking: Api) -> None:
    """Takes a second: the reply is slow, so that the second caller copies it."""
    message = unique(f"请稍候片刻 我们 马上 回答 {PHONE} 再见 #r=5#")
    with blocking.running(message) as first:
        second = blocking.streamed(message)
        assert first.rest().data["finish_reason"] == second.events[-1].data["finish_reason"] == "content_filter"
    assert first.text == second.text == "You said: 请稍候片刻 我们 马上 回答 "


def test_every_route_masks_text(masking: Api) -> None:
    assert {response.status for response in said_in_every_way(masking)} == {200}


def test_every_route_refuses_forbidden_text(refusing: Api) -> None:
    for response in said_in_every_way(refusing):
        assert (response.status, response.json["code"]) == (422, "sensitive_content")
        assert response.json["errors"][0]["message"] == "contains phone"


def said_in_every_way(api: Api) -> list[Response]:
    """Return the answers to every request that stores user text. Fail if any of it is stored."""
    started = api.chat(unique("hello"))
    conversation_id = started["conversation_id"]
    path = f"/api/conversations/{conversation_id}"
    first = api.read(conversation_id)["messages"]["data"][0]
    ways: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "/api/chat", {"message": f"call {PHONE}", "conversation_id": conversation_id}),
        ("POST", "/api/chat", {"message": f"call {PHONE}", "stream": True}),
        ("POST", "/api/chat", {"message": "hi", "system": PHONE}),
        ("POST", "/api/chat", {"message": "hi", "metadata": {"a": [{"b": int(PHONE)}]}}),
        ("POST", f"{path}/messages/{first['id']}/edit", {"message": f"call {PHONE}"}),
        ("PATCH", path, {"title": f"call {PHONE}"}),
        ("PATCH", path, {"system": f"call {PHONE}"}),
        ("PATCH", path, {"metadata": {PHONE: 1}}),
        ("PATCH", path, {"metadata": {"tel": float(PHONE)}}),
        ("POST", "/api/chat", {"message": unique("hi"), "model": f"of {PHONE}"}),
    ]
    responses = [api.request(method, url, json=body) for method, url, body in ways]
    assert PHONE.encode() not in b"".join(response.body for response in responses)
    assert api.count("messages", "content LIKE :some OR model LIKE :some", some=f"%{PHONE}%") == 0
    where = "title LIKE :some OR `system` LIKE :some OR metadata LIKE :some"
    assert api.count("conversations", where, some=f"%{PHONE}%") == 0
    return responses


def test_refused_text_is_neither_logged_nor_stored(refusing: Api) -> None:
    before = refusing.count("conversations")
    response = refusing.post(f"代号猎鹰 EMP-1234 {PHONE}", headers={"Accept-Language": "zh"})
    assert (response.status, response.json["title"]) == (422, "内容含有敏感信息")
    assert response.json["errors"] == [{"field": "message", "message": "含有 phone, staff, word"}]
    assert refusing.count("conversations") == before
    assert PHONE not in refusing.server.log()


@pytest.mark.parametrize("fault", ["cut_after:6", "end_after:6", "error_after:6", "reset_after:6"])
def test_broken_reply_keeps_its_checked_text(answering: Api, fault: str) -> None:
    message = unique(f"one two 138 1234 #fault={fault}#")
    stream = answering.streamed(message)
    assert stream.events[-1].event == "error"
    stored = answering.last(stream.events[0].data["conversation_id"])
    assert (stored["content"], stored["status"]) == (stream.text, "truncated")
    # A reset discards the socket's buffers, so no client saw their text.
    assert stream.text == "You said: one two 138 1234 "[: len(stream.text)]
    assert stream.text.endswith("138 1234 ") or fault.startswith("reset")


def test_stopped_reply_keeps_the_text_held_back(answering: Api) -> None:
    """Takes a second: the reply is slow."""
    with answering.running(unique("wait for 138 1234 5678 more and more and more #r=5#")) as running:
        running.until(len("You said: wait "))
        answering.stop(running.id)
        assert running.rest().data["status"] == "stopped"
        assert "138 1234 5678" not in running.text
    assert answering.last(running.id)["content"] == running.text


@pytest.mark.parametrize("name", FORMATS)
def test_exports_mask_stored_text(answering: Api, name: str) -> None:
    text = exports_of_what_is_stored(answering, name)
    assert (MASKED in text, "of mine" in text) == (True, True)


@pytest.mark.parametrize("name", FORMATS)
def test_exports_can_omit_texts(blocking: Api, name: str) -> None:
    text = exports_of_what_is_stored(blocking, name)
    # The fine-tuning format has only complete replies.
    assert (MASKED in text, "of mine" in text) == (name != "openai", False)


@pytest.mark.parametrize("name", FORMATS)
def test_exports_mask_errors_and_imported_fields(answering: Api, name: str) -> None:
    told = answering.chat(unique("hello"))["conversation_id"]
    where = " WHERE conversation_id = :id AND role = 'assistant'"
    said = "model = :said, finish_reason = :said, error = :said, error_detail = :said"
    answering.execute(f"UPDATE messages SET {said}{where}", said=PHONE, id=UUID(told).bytes)  # noqa: S608 - our words
    text = exported(answering, told, name)
    assert PHONE not in text
    text = text.replace("\\[", "[").replace("\\]", "]")  # as Markdown writes them
    assert text.count(MASKED) == {"json": 4, "ndjson": 4, "csv": 3, "md": 1, "openai": 0}[name]


def test_export_jobs_and_command_mask_alike(answering: Api) -> None:
    """Starts a process and waits for a job: two seconds."""
    told = answering.chat(f"number {PHONE} of mine")["conversation_id"]
    job = answering.request("POST", "/api/exports", json={"format": "md", "conversation_id": told}).json
    done = eventually(lambda: found if (found := answering.request("GET", job_path(job)).json)["finished_at"] else None)
    file = answering.request("GET", f"{job_path(done)}/content")
    written = export_command(answering, f"--conversation={told}", "--format=md")
    assert (written.returncode, file.status) == (0, 200)
    assert MASKED in file.text
    assert MASKED in written.stdout.decode()
    assert PHONE not in f"{file.text}{written.stdout.decode()}{file.headers}"


def job_path(job: Any) -> str:
    return f"/api/exports/{job['id']}"


def exports_of_what_is_stored(api: Api, name: str) -> str:
    """Return the export of a conversation. This server does not check messages."""
    answer = api.chat(f"number {PHONE} of mine", system=f"call {PHONE}", metadata={"tel": int(PHONE)})
    assert PHONE in api.read(answer["conversation_id"])["messages"]["data"][0]["content"]
    text = exported(api, answer["conversation_id"], name)
    whole = api.request("GET", f"/api/conversations/export-all?format={name}").body.decode()
    assert PHONE not in text + whole
    return text


def test_import_is_masked(masking: Api) -> None:
    response = imported(masking)
    assert response.json["problems"] == []
    (found,) = [one for one in masking.list(limit=100)["data"] if one["title"] == MASKED]
    assert [said["content"] for said in masking.read(found["id"])["messages"]["data"]] == [f"call {MASKED}"] * 2


def test_import_command_masks_alike(refusing: Api) -> None:
    """Starts a process: a second."""
    command = [sys.executable, "-m", "chatkeep", "import", "-"]
    done = subprocess.run(
        command,
        input=json.dumps([talk()]).encode(),
        env=refusing.server.environment(),
        cwd=refusing.server.folder,
        capture_output=True,
        timeout=30 * SLOW,
        check=False,
    )
    assert (done.returncode, done.stderr.decode().strip()) == (1, "line 1: title: contains phone")


def test_forbidden_record_of_an_import_is_named_by_line(refusing: Api) -> None:
    response = imported(refusing)
    assert [problem["message"] for problem in response.json["problems"]] == ["title: contains phone"]


@pytest.mark.parametrize("since", [None, "1"])
@pytest.mark.parametrize("form", ["json", "ndjson"])
def test_import_applies_the_policy_for_replies(answering: Api, form: str, since: str | None) -> None:
    imported_own(answering, form, since)
    assert answering.count("messages", "finish_reason = :label AND error = :label AND model = :label", label=MASKED) > 2


@pytest.mark.parametrize("form", ["json", "ndjson"])
def test_import_applies_the_policy_for_users_to_every_role(refusing: Api, form: str) -> None:
    report = imported_own(refusing, form, None)
    assert "contains phone" in str(report["problems"])


def imported_own(api: Api, form: str, since: str | None) -> Any:
    """Import a chatkeep export and return the report. Fail if sensitive text is stored."""
    media = "application/json" if form == "json" else "application/x-ndjson"
    body, before = own_export(form, since=since), sensitive_rows(api)
    assert body.count(PHONE.encode()) > 15
    response = api.request("POST", "/api/conversations/import", body=body, headers={"Content-Type": media})
    assert response.status == 200
    assert sensitive_rows(api) == before
    return response.json


def sensitive_rows(api: Api) -> tuple[int, int]:
    """Count the messages and conversations with the phone number; other tests may have stored some."""
    texts = ("content", "reasoning", "model", "finish_reason", "error", "error_detail"), ("title", "system", "metadata")
    said, told = (" OR ".join(f"`{column}` LIKE :x" for column in columns) for columns in texts)
    return api.count("messages", said, x="%1381234%"), api.count("conversations", told, x="%1381234%")


def imported(api: Api) -> Response:
    response = api.request("POST", "/api/conversations/import", json=[talk()])
    assert response.status == 200
    assert PHONE not in response.text
    assert api.count("messages", "content LIKE :some", some=f"%{PHONE}%") == 0
    assert api.count("conversations", "title LIKE :some", some=f"%{PHONE}%") == 0
    return response


def test_earlier_stored_text_is_masked_for_the_model(upstream: Upstream, tmp_path: Path) -> None:
    """Starts two servers, one after the other: a second or two."""
    env = {
        "DATABASE_URL": f"sqlite:///{(tmp_path / 'chatkeep.sqlite3').as_posix()}",
        "OPENAI_BASE_URL": upstream.url,
        "OPENAI_API_KEY": "test-key",
    }
    with thrown_away(Server("waitress", tmp_path / "before", env)) as server:
        id = Api(server).chat(f"call {PHONE}", system=f"say {PHONE}")["conversation_id"]  # noqa: A001 - as it is called
    with thrown_away(Server("waitress", tmp_path / "after", env | {"CHATKEEP_REDACT_INPUT": "block"})) as server:
        message = unique()
        Api(server).chat(message, conversation_id=id)
        assert Api(server).read(id)["messages"]["data"][0]["content"] == f"call {PHONE}"
    sent = asked(upstream, message)[0].body["messages"]
    assert [one["content"] for one in sent if one["role"] != "assistant"] == ["say [phone]", "call [phone]", message]

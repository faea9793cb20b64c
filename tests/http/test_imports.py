"""Imports over HTTP: servers accept each other's exports, and report errors."""

from __future__ import annotations

import gzip
import json
import zipfile
from collections.abc import Iterator, Mapping
from io import BytesIO

import pytest

from tests.client import Response
from tests.http.api import Api, unique
from tests.imports.stores import records, resealed
from tests.imports.test_sources import TREE, chatgpt, node
from tests.servers import Server
from tests.upstream import Upstream

NDJSON = "application/x-ndjson"


@pytest.fixture(scope="module")
def source(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """The API of the server that exports conversations."""
    env = {"OPENAI_BASE_URL": upstream.url, "OPENAI_API_KEY": "test-key"}
    with Server("waitress", tmp_path_factory.mktemp("source"), env) as server:
        yield Api(server)


def imported(api: Api, file: bytes, kind: str = "application/json", *, query: str = "", **headers: str) -> Response:
    sent = {"Content-Type": kind} | {name.replace("_", "-"): value for name, value in headers.items()}
    return api.request("POST", f"/api/conversations/import{query}", body=file, headers=sent)


def archive(files: Mapping[str, bytes]) -> bytes:
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in files.items():
            made.writestr(name, content)
    return packed.getvalue()


def exported(api: Api, conversation_id: str, name: str = "json") -> bytes:
    response = api.request("GET", f"/api/conversations/{conversation_id}/export?format={name}")
    assert response.status == 200
    return response.body


@pytest.mark.parametrize(("name", "kind"), [("json", "application/json"), ("ndjson", NDJSON)])
def test_conversation_moves_to_another_server_with_all_branches(source: Api, own: Api, name: str, kind: str) -> None:
    first = source.chat(unique("你好 🙂"), system="Be brief.", metadata={"team": "诗"})
    id = first["conversation_id"]  # noqa: A001 - as everywhere
    source.request("POST", f"/api/conversations/{id}/messages/{first['message_id']}/regenerate", json={})
    file = exported(source, id, name)
    report = imported(own, file, kind).json
    assert report == {
        "object": "import", "messages": 3, "left_out": [], "problem_count": 0, "problems": [],
        "conversations": {"added": 1, "present": 0, "updated": 0, "deleted": 0, "expired": 0},
    }  # fmt: skip
    assert exported(own, id, name) == file
    assert own.read(id) == source.read(id)
    assert imported(own, file, kind).json["conversations"]["present"] == 1


def test_imported_conversation_can_be_continued(source: Api, own: Api) -> None:
    id = source.chat(unique("Hello"))["conversation_id"]  # noqa: A001
    imported(own, exported(source, id))
    reply = own.chat("And now?", conversation_id=id)
    assert [one["position"] for one in own.read(id)["messages"]["data"]] == [1, 2, 3, 4]
    path = f"/api/conversations/{id}/messages/{reply['message_id']}/regenerate"
    assert own.request("POST", path, json={}).status == 200


def test_increment_updates_another_server(source: Api, own: Api) -> None:
    kept, gone = (source.chat(unique("Hello"))["conversation_id"] for _ in range(2))
    full = source.request("GET", "/api/conversations/export-all?format=ndjson").body
    source.chat("Go on", conversation_id=kept)
    source.change(kept, title="Renamed")
    source.delete(gone)
    cursor = json.loads(full.splitlines()[-1])["cursor"]
    later = source.request("GET", f"/api/conversations/export-all?format=ndjson&cursor={cursor}").body
    reports = [imported(own, file, NDJSON).json for file in (full, later)]
    assert [report["problem_count"] for report in reports] == [0, 0]
    assert (reports[1]["conversations"]["updated"], reports[1]["conversations"]["deleted"]) == (1, 1)
    assert exported(own, kept) == exported(source, kept)
    assert own.request("GET", f"/api/conversations/{gone}").status == 404


def test_increment_is_refused_during_a_running_reply(source: Api, own: Api) -> None:
    id = source.chat(unique("Hello"))["conversation_id"]  # noqa: A001
    file = exported(source, id, "ndjson")
    imported(own, file, NDJSON)
    head, conversation, *said = (json.dumps(line).encode() + b"\n" for line in records(file))
    increment = resealed(head.replace(b"}", b', "since": "1"}') + conversation + b"".join(said))
    with own.running("Wait #n=400,r=20#", conversation_id=id):
        (problem,) = imported(own, increment, NDJSON).json["problems"]
    own.stop(id)
    assert (problem["line"], problem["message"][:10]) == (2, "it is busy")


def test_chatgpt_export_is_listed_and_kept(own: Api) -> None:
    title = unique("From elsewhere")
    report = imported(
        own, json.dumps([chatgpt(TREE, "blank", title=title, conversation_id=title)], indent=1).encode()
    ).json
    assert (report["conversations"]["added"], report["messages"], report["problems"]) == (1, 6, [])
    (found,) = own.list(q=title)["data"]
    assert found["metadata"] == {"imported_from": "chatgpt", "source_id": title}
    assert (found["ttl"], found["expires_at"]) == (None, None)


@pytest.mark.parametrize(("asked", "ttl"), [("3600", 3600), ("30d", 30 * 86400), ("never", None)])
def test_ttl_of_an_import_can_be_set_and_changed(own: Api, asked: str, ttl: int | None) -> None:
    title = unique("Kept")
    file = json.dumps([chatgpt(TREE, "blank", title=title, conversation_id=title)]).encode()
    assert imported(own, file, query="?ttl=7d").json["conversations"]["added"] == 1
    assert imported(own, file, query=f"?ttl={asked}").json["conversations"]["updated"] == 1
    (found,) = own.list(q=title)["data"]
    assert (found["ttl"], found["expires_at"] is None) == (ttl, ttl is None)


@pytest.mark.parametrize("asked", ["soon", "", "-1", "4000d", "1e9"])
def test_invalid_ttl_is_refused(own: Api, asked: str) -> None:
    response = imported(own, b"[]", query=f"?ttl={asked}")
    assert (response.status, response.json["errors"][0]["field"]) == (422, "ttl")


def test_bad_record_is_named_by_line_and_the_rest_is_imported(own: Api) -> None:
    file = [chatgpt(TREE, conversation_id=unique("c")), {"mapping": 7}, chatgpt(TREE, conversation_id=unique("c"))]
    response = imported(own, b"[\n" + b",\n".join(json.dumps(one).encode() for one in file) + b"\n]")
    assert (response.status, response.json["conversations"]["added"]) == (200, 2)
    assert response.json["problems"] == [
        {"line": 3, "message": "it is not a conversation of a program whose exports are read"}
    ]


@pytest.mark.parametrize(
    ("file", "kind", "status", "code"),
    [
        (b'{"hello": 1}', "application/json", 422, "invalid_fields"),
        (b"hello", NDJSON, 422, "invalid_fields"),
        (b"", "application/json", 422, "invalid_fields"),
        (b"[" * 100_000, "application/json", 422, "invalid_fields"),
        (archive({"chat.html": b"<html>"}), "application/zip", 422, "invalid_fields"),
        (archive({"conversations.json": b"{}"})[:-40], "application/zip", 422, "invalid_fields"),
        (gzip.compress(b'{"hello": 1}'), "application/gzip", 422, "invalid_fields"),
    ],
    ids=["other json", "no json", "nothing", "deep", "other archive", "cut archive", "other gzip"],
)
def test_unknown_file_is_refused(own: Api, file: bytes, kind: str, status: int, code: str) -> None:
    response = imported(own, file, kind)
    assert (response.status, response.json["code"]) == (status, code)


@pytest.mark.parametrize(
    ("language", "told"),
    [("en", "a.json cannot be read: This is not an export of"), ("zh", "无法读取 a.json：")],  # noqa: RUF001
)
def test_unknown_file_in_an_archive_is_skipped(own: Api, language: str, told: str) -> None:
    sound = json.dumps([chatgpt(TREE, conversation_id=unique("c"))]).encode()
    file = archive({"a.json": b'{"theme": "dark"}', "b.json": sound})
    locked = bytearray(archive({"a.json": b"[]", "b.json": sound}))
    locked[locked.index(b"PK\x01\x02") + 8] |= 1  # the first file is encrypted
    headers = {"Content-Type": "application/zip", "Accept-Language": language}
    response = own.request("POST", "/api/conversations/import", body=file, headers=headers)
    assert (response.status, response.json["conversations"]["added"], response.json["problem_count"]) == (200, 1, 1)
    assert response.json["problems"][0]["message"].startswith(told)
    report = imported(own, bytes(locked), "application/zip").json
    assert (report["conversations"]["present"], report["problem_count"]) == (1, 1)
    assert "encrypted" in report["problems"][0]["message"]


def test_broken_archive_in_an_archive_is_skipped(own: Api) -> None:
    sound = archive({"conversations.json": json.dumps([chatgpt(TREE, conversation_id=unique("c"))]).encode()})
    report = imported(own, archive({"a.zip": b"PK\x03\x04?", "b.zip": sound}), "application/zip").json
    assert (report["conversations"]["added"], report["problem_count"]) == (1, 1)
    assert report["problems"][0]["message"].startswith("a.zip cannot be read: This archive cannot be read: ")
    alone = imported(own, archive({"a.zip": b"PK\x03\x04?"}), "application/zip")
    assert (alone.status, "a.zip cannot be read: " in alone.json["detail"]) == (422, True)


@pytest.mark.parametrize(
    ("language", "words", "reason"),
    [
        ("en", ["2 pictures", "1 tool call", "1 unreadable message"], "its message x is left out: it has no author"),
        ("zh", ["2 张图片", "1 次工具调用", "1 条无法读取的消息"], "它的消息 x 被略去：它没有作者"),  # noqa: RUF001 - as it is written
    ],
)
def test_skipped_content_is_counted_in_the_caller_s_language(
    own: Api, language: str, words: list[str], reason: str
) -> None:
    picture = {"content_type": "image_asset_pointer"}
    mapping = {
        "u": node(None, "user", picture, picture, "Which is older?"),
        "c": node("u", "assistant", "{}", recipient="web.run"),
        "x": node("c", "assistant", "?", author=None),
        "a": node("x", "assistant", "The left one."),
    }
    file = json.dumps([chatgpt(mapping, "a", conversation_id=unique("c"))]).encode()
    headers = {"Content-Type": "application/json", "Accept-Language": language}
    report = own.request("POST", "/api/conversations/import", body=file, headers=headers).json
    assert report["left_out"] == [
        {"kind": kind, "count": count, "message": message}
        for kind, count, message in zip(
            ["picture", "tool_call", "unreadable_message"], [2, 1, 1], words, strict=True
        )
    ]  # fmt: skip
    assert [problem["message"] for problem in report["problems"]] == [reason]
    assert report["messages"] == 2


@pytest.mark.parametrize(
    ("kind", "headers"),
    [
        ("application/zip", {}),
        ("application/x-zip-compressed", {}),
        ("application/octet-stream", {}),
        ("application/gzip", {}),
        ("application/json", {"Content-Encoding": "gzip"}),
        ("application/json", {"Content-Encoding": "X-GZIP"}),
        (NDJSON, {}),
    ],
    ids=["zip", "zip of Windows", "zip without a type", "gzip", "coded", "coded in another way", "whatever"],
)
def test_compressed_file_is_imported(own: Api, kind: str, headers: dict[str, str]) -> None:
    one, two = (
        json.dumps([chatgpt(TREE, "blank", title=title, conversation_id=title)]).encode()
        for title in (unique("Packed"), unique("Packed"))
    )
    is_gzip = kind == "application/gzip" or bool(headers)
    file = gzip.compress(one) if is_gzip else archive({"conversations-000.json": one, "conversations-001.json": two})
    report = imported(own, file, kind, **headers).json
    expected = 1 if is_gzip else 2
    assert (report["conversations"]["added"], report["messages"]) == (expected, 6 * expected)


@pytest.mark.parametrize(
    ("kind", "headers", "told"),
    [
        ("text/plain", {}, "Send the file itself as the body"),
        ("multipart/form-data; boundary=x", {}, "not in a form"),
        ("application/x-www-form-urlencoded", {}, "not in a form"),
        ("application/json", {"Content-Encoding": "br"}, "gzip"),
        ("application/zip", {"Content-Encoding": "gzip"}, "unchanged"),
    ],
    ids=["text", "form", "curl's", "brotli", "twice"],
)
def test_other_content_types_get_an_explanation(own: Api, kind: str, headers: dict[str, str], told: str) -> None:
    response = imported(own, b"[]", kind, **headers)
    assert (response.status, response.json["code"]) == (415, "unsupported_media_type")
    assert told in response.json["detail"]


@pytest.mark.everywhere
@pytest.mark.parametrize(
    ("file", "kind"),
    [
        (b" " * 1_048_577, "application/json"),
        (b" " * 5_000_000, "application/json"),
        (gzip.compress(b" " * 17_000_000), "application/gzip"),
        (archive({"conversations.json": b" " * 17_000_000}), "application/zip"),
        (archive({f"conversations-{n}.json": b" " * 3_000_000 for n in range(6)}), "application/zip"),
        (archive({"inner.zip": archive({"conversations.json": b" " * 17_000_000})}), "application/zip"),
        (archive({"inner.zip": b" " * 17_000_000}), "application/zip"),
    ],
    ids=["large", "5 MB", "bomb", "archive", "many", "nested", "copied"],
)
def test_file_over_the_limit_gets_a_workaround(own: Api, file: bytes, kind: str) -> None:
    response = imported(own, file, kind)
    assert (response.status, response.json["code"]) == (413, "body_too_large")
    assert "CHATKEEP_MAX_BODY" in response.json["detail"]
    assert "chatkeep import" in response.json["detail"]


def test_file_too_large_when_decompressed_imports_nothing(own: Api) -> None:
    title = unique("Bomb")
    file = json.dumps([chatgpt(TREE, "blank", title=title, conversation_id=title)]).encode() + b" " * 17_000_000
    assert imported(own, gzip.compress(file), "application/gzip").status == 413
    assert own.list(q=title)["data"] == []

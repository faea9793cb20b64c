"""Conversations: list, search, read by pages, change, delete, expire."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import Any
from uuid import uuid4

import pytest

from tests.http.api import Api, eventually, unique

ID = "01a202c6-688b-7050-9b35-34b6a3bc47ef"
SHAPES = ["1", "abc", "null", f"{ID}0", ID[:-1], f"{{{ID}}}", "..", "%00", "%F0%9F%A6%8A"]


def test_unknown_conversation_is_404_on_every_route(api: Api) -> None:
    unknown, path = uuid4(), f"/api/conversations/{uuid4()}"
    replies = [
        api.post("Hello", conversation_id=f"{unknown}"),
        api.request("GET", path),
        api.request("PATCH", path, json={"title": "x"}),
        api.request("DELETE", path),
        api.request("POST", f"{path}/stop"),
        api.request("GET", f"{path}/messages/{unknown}/stream"),
        api.request("POST", f"{path}/messages/{unknown}/regenerate", json={}),
        api.request("POST", f"{path}/messages/{unknown}/edit", json={"message": "x"}),
    ]
    assert {(reply.status, reply.json["code"], reply.json["detail"]) for reply in replies} == {
        (404, "not_found", "Conversation not found. It may have expired or been deleted.")
    }


@pytest.mark.parametrize("shape", SHAPES)
def test_malformed_id_is_404(api: Api, shape: str) -> None:
    for method, tail in [("GET", ""), ("DELETE", ""), ("POST", "/stop"), ("GET", f"/messages/{uuid4()}/stream")]:
        reply = api.request(method, f"/api/conversations/{shape}{tail}")
        assert (reply.status, reply.json["code"]) == (404, "not_found")


def test_message_of_another_conversation_is_404(api: Api) -> None:
    one, other = api.chat("one"), api.chat("other")
    with api.follow({**one, "message_id": other["message_id"]}) as stream:
        assert stream.status == 404


def test_deleted_conversation_is_404(api: Api) -> None:
    answer = api.chat(mark := unique())
    conversation = answer["conversation_id"]
    deleted = api.delete(conversation)
    assert (deleted.status, deleted.json) == (200, {"id": conversation, "deleted": True})
    assert api.delete(conversation).status == api.request("GET", f"/api/conversations/{conversation}").status == 404
    assert api.follow(answer).status == api.post("Hello", conversation_id=conversation).status == 404
    assert api.list(q=mark)["data"] == []
    assert api.count("messages", "content LIKE :mark", mark=f"%{mark}%") == 0


def test_deleting_ends_a_running_reply_and_leaves_no_rows(api: Api) -> None:
    reply = api.running(f"{(mark := unique())} #fault=endless,r=50#")
    assert api.delete(reply.id).status == 200
    last = reply.rest()
    assert (last.event, last.data["code"], last.data["status"]) == ("error", "not_found", 404)
    assert [event.event for event in reply.stream.events].count("error") == 1
    message = bytes.fromhex(last.data["message_id"].replace("-", ""))
    assert api.count("messages", "message_id = :id OR content LIKE :mark", id=message, mark=f"%{mark}%") == 0
    assert api.count("leases", "reply_id = :id", id=message) == 0


CHANGES: list[dict[str, Any]] = [
    {"title": "新しい題 😀"},
    {"title": "x" * 255},
    {"system": "Be kind."},
    {"system": None},
    {"ttl": 60},
    {"ttl": None},
    {"pinned": True},
    {"metadata": {"a": [1, 2.5, "ü", None, {"b": True}]}},
    {"metadata": {}},
    {"title": "all", "system": "at", "ttl": 1000, "pinned": True, "metadata": {"on": "ce"}},
    {},
]


@pytest.mark.parametrize("fields", CHANGES, ids=str)
def test_patch_changes_only_its_fields(api: Api, fields: dict[str, Any]) -> None:
    conversation = api.chat("Hello", system="Old.", metadata={"old": 1}, ttl=500)["conversation_id"]
    before = api.read(conversation)
    changed = api.change(conversation, **fields)
    after = api.read(conversation)
    assert {**before, **fields, "expires_at": None} == {**after, "expires_at": None}
    assert changed == {name: value for name, value in after.items() if name != "messages"}


def test_conversation_expires_a_ttl_after_its_last_activity(api: Api) -> None:
    conversation = api.chat("Hello")["conversation_id"]
    assert lifetime(api.read(conversation)) == timedelta(hours=24)
    assert lifetime(api.change(conversation, ttl=60)) == timedelta(minutes=1)
    assert lifetime(api.change(conversation, pinned=True)) is None
    assert lifetime(api.change(conversation, pinned=False)) == timedelta(minutes=1)
    api.chat("Again", conversation_id=conversation, ttl=90)
    assert lifetime(api.read(conversation)) == timedelta(seconds=90)
    assert lifetime(api.change(conversation, ttl=None)) is None


def lifetime(conversation: Any) -> timedelta | None:
    if conversation["expires_at"] is None:
        return None
    return datetime.fromisoformat(conversation["expires_at"]) - datetime.fromisoformat(conversation["last_active"])


def test_changed_system_prompt_is_sent_with_later_turns(api: Api) -> None:
    conversation = api.chat("Hello", system="Old.")["conversation_id"]
    api.change(conversation, system="New.")
    assert api.chat("Again", conversation_id=conversation)["usage"]["input_tokens"] == 4
    api.change(conversation, system=None)
    assert api.chat("Again", conversation_id=conversation)["usage"]["input_tokens"] == 5


def test_expired_conversation_is_404(api: Api) -> None:
    """Waits until a second has passed."""
    answer = api.chat(mark := unique(), ttl=1)
    path = f"/api/conversations/{answer['conversation_id']}"
    kept = api.chat(mark, ttl=1)["conversation_id"]
    api.change(kept, pinned=True)
    assert eventually(lambda: api.request("GET", path).status == 404, 3)
    assert [item["id"] for item in api.list(q=mark)["data"]] == [kept]
    again = api.post("Hello", conversation_id=answer["conversation_id"])
    gone = [again, api.request("PATCH", path, json={"pinned": True}), api.delete(answer["conversation_id"])]
    assert {reply.status for reply in gone} == {404} == {api.follow(answer).status}


def test_list_is_ordered_by_last_activity(api: Api) -> None:
    mark = unique()
    first, second, third = (api.chat(mark)["conversation_id"] for _ in range(3))
    api.chat("Again", conversation_id=first)
    assert [item["id"] for item in api.list(q=mark)["data"]] == [first, third, second]
    assert [item["id"] for item in api.list(q=mark, order="asc")["data"]] == [second, third, first]


def test_list_has_cursors_of_its_ends(api: Api) -> None:
    mark = unique()
    one, two = (api.chat(mark)["conversation_id"] for _ in range(2))
    page = api.list(q=mark, limit=1)
    assert (page["object"], page["first_id"], page["has_more"]) == ("list", two, True)
    for place in (page["last_id"], two, two.upper()):
        assert [item["id"] for item in api.list(q=mark, after=place)["data"]] == [one]
    page = api.list(q=mark, limit=2)
    assert (page["first_id"], page["has_more"]) == (two, False)
    assert api.list(q=mark, after=page["last_id"])["data"] == []
    assert api.list(q=unique()) == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("limit", [1, 3, 4, 100])
def test_pages_of_conversations_have_no_gaps_or_duplicates(api: Api, order: str, limit: int) -> None:
    mark = unique()
    made = [api.chat(mark)["conversation_id"] for _ in range(8)]
    found = pages(lambda **query: api.list(q=mark, order=order, limit=limit, **query))
    assert [item["id"] for item in found] == (made if order == "asc" else made[::-1])


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("pinned", [None, False])
def test_changes_between_pages_neither_repeat_nor_hide_conversations(
    api: Api, order: str, *, pinned: bool | None
) -> None:
    mark = unique()
    made = [api.chat(mark)["conversation_id"] for _ in range(9)]
    in_order = made if order == "asc" else made[::-1]
    query = {"q": mark, "order": order, "limit": 2} | ({} if pinned is None else {"pinned": "false"})
    found, page = [], api.list(**query)
    for deed in ("move", "delete", "pin", "new"):
        found += [item["id"] for item in page["data"]]
        if deed == "move":
            api.chat("Again", conversation_id=found[-1])
        elif deed == "delete":
            api.delete(found[-1])
        elif deed == "pin":
            api.change(found[-1], pinned=True)
        else:
            api.chat(mark)
        assert page["has_more"]
        page = api.list(**query, after=page["last_id"])
    found += [item["id"] for item in page["data"]]
    assert (found, page["has_more"]) == (in_order, False)


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("pinned", [None, False])
def test_pages_by_creation_have_each_lasting_conversation_once(api: Api, order: str, *, pinned: bool | None) -> None:
    mark = unique()
    made = [api.chat(mark)["conversation_id"] for _ in range(9)]
    ahead = made[::-1] if order == "desc" else made
    query = {"q": mark, "sort": "created", "order": order, "limit": 2} | ({} if pinned is None else {"pinned": "false"})
    page = api.list(**query)
    found = [item["id"] for item in page["data"]]
    for conversation in (found[0], ahead[4], ahead[-1]):  # one of the first page, and two later ones
        api.chat("Again", conversation_id=conversation)
    api.delete(page["last_id"])
    api.delete(ahead[5])
    api.change(found[0], pinned=True)
    while page["has_more"]:
        page = api.list(**query, after=page["last_id"])
        found += [item["id"] for item in page["data"]]
    assert found == [one for one in ahead if one != ahead[5]]


@pytest.mark.parametrize("place", ["x", "{}%0A", "{}_1%0A", "{}_", "{}_x", "{}_1_2_3", "{}_" + "9" * 19, "{}x"])
def test_unknown_cursor_is_422(api: Api, place: str) -> None:
    response = api.request("GET", f"/api/conversations?after={place.format('01a202d1-2a30-79d4-9bd7-fd298a4c908a')}")
    assert (response.status, response.json["errors"][0]["field"]) == (422, "after")


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("limit", [1, 3, 4, 100])
def test_pages_of_messages_have_no_gaps_or_duplicates(api: Api, order: str, limit: int) -> None:
    conversation = api.chat("1")["conversation_id"]
    for number in "234":
        api.chat(number, conversation_id=conversation)
    found = pages(lambda **query: api.read(conversation, order=order, limit=limit, **query)["messages"])
    assert [item["position"] for item in found] == (list(range(1, 9)) if order == "asc" else list(range(8, 0, -1)))
    in_time = found if order == "asc" else found[::-1]
    assert all(one["timestamp"] <= two["timestamp"] for one, two in pairwise(in_time))
    assert all(one["id"] == two["parent_id"] for one, two in pairwise(in_time))


def pages(read: Any) -> list[Any]:
    """Return the items of all pages."""
    page = read()
    found = list(page["data"])
    while page["has_more"]:
        page = read(after=page["last_id"])
        found += page["data"]
    return found


@pytest.mark.parametrize(
    "query", ["after=00000000-0000-7000-8000-000000000000", "limit=0", "limit=101", "limit=x", "limit="]
)
@pytest.mark.parametrize("of", ["list", "messages"])
def test_invalid_page_query_is_422(api: Api, query: str, of: str) -> None:
    path = f"/api/conversations/{api.chat('Hello')['conversation_id']}" if of == "messages" else "/api/conversations"
    reply = api.request("GET", f"{path}?{query}")
    assert (reply.status, reply.json["errors"][0]["field"]) == (422, query.partition("=")[0])


SEARCHES = [
    ("100% sure", "100% s"),
    ("snake_case", "snake_c"),
    ("wow! such", "wow! s"),
    (r"back\slash", "back\\s"),
    ("it's 'quoted'", "it's 'q"),
    ("今天天气很好", "今天天气"),
    ("Mixed Case", "mIXED cASE"),
    ("Ärger", "Ärger"),
    ("ÉCOLE", "école"),
    ("привет", "ПРИВЕТ"),
    ("😀 smile", "😀"),
]


@pytest.mark.parametrize(("text", "query"), SEARCHES)
def test_search_ignores_case(api: Api, text: str, query: str) -> None:
    mark = unique()
    in_title = api.chat(f"{mark}{text}")["conversation_id"]
    in_text = api.chat(f"{'x' * 80}\n{mark}{text}")["conversation_id"]
    api.chat(f"{mark} something else")
    assert [item["id"] for item in api.list(q=f"{mark}{query}")["data"]] == [in_text, in_title]


@pytest.mark.parametrize(
    "query",
    ["redis 超时", "超时 redis", "  Redis   超时 ", "redis\u3000超时", "超时 超时 redis", "REDIS connection 超时"],
)
def test_search_requires_all_words_in_any_order(api: Api, query: str) -> None:
    mark = unique()
    together = api.chat(f"{mark} The redis connection gives 连接超时")["conversation_id"]
    apart = api.chat(f"{mark} 请求超时了")["conversation_id"]
    api.chat("Is it the Connection to Redis?", conversation_id=apart)
    in_title = api.chat(f"{mark} connection 超时")["conversation_id"]
    api.change(in_title, title="Redis")
    api.chat(f"{mark} redis connection")
    api.chat(f"{mark} 超时 connection")
    found = [item["id"] for item in api.list(q=f"{query} {mark}")["data"]]
    assert found == [in_title, apart, together]


def test_search_treats_words_past_the_limit_as_a_phrase(api: Api) -> None:
    words = [unique()[:12] for _ in range(12)]
    found = api.chat(" ".join(words))["conversation_id"]
    assert [item["id"] for item in api.list(q=" ".join(words))["data"]] == [found]
    assert api.list(q=" ".join([*words[:7], words[11], words[7]]))["data"] == []


def test_search_finds_a_space(api: Api) -> None:
    found = api.chat(f"{unique()} {unique()}")["conversation_id"]
    assert found in [item["id"] for item in api.list(q=" ")["data"]]


def test_search_finds_text_after_a_nul(api: Api) -> None:
    found = api.chat(f"before\0{(mark := unique())}")["conversation_id"]
    assert [item["id"] for item in api.list(q=mark)["data"]] == [found]


@pytest.mark.parametrize("wildcard", ["%", "_", "!%", "!_", "!"])
def test_search_has_no_wildcards(api: Api, wildcard: str) -> None:
    mark = unique()
    api.chat(f"{mark}a plain b")
    assert api.list(q=f"{mark}a{wildcard}")["data"] == []


def test_search_includes_replies(api: Api) -> None:
    found = api.chat(mark := unique("echo"))["conversation_id"]
    assert [item["id"] for item in api.list(q=f"You said: {mark}")["data"]] == [found]


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pinned_filter_selects_pinned_conversations(api: Api, order: str) -> None:
    mark = unique()
    made = [api.chat(mark)["conversation_id"] for _ in range(6)]
    for pinned in made[1::2]:
        api.change(pinned, pinned=True)
    listed = {
        pinned: [item["id"] for item in pages(partial(api.list, q=mark, pinned=pinned, order=order, limit=1))]
        for pinned in ("true", "false")
    }
    step = 1 if order == "asc" else -1
    assert listed == {"true": made[1::2][::step], "false": made[::2][::step]}
    everywhere = [item["id"] for item in pages(partial(api.list, pinned="true", order=order, limit=100))]
    assert [each for each in everywhere if each in made] == listed["true"]


def test_invalid_pinned_filter_is_422(api: Api) -> None:
    assert api.request("GET", "/api/conversations?pinned=perhaps").json["errors"][0]["field"] == "pinned"


def test_search_finds_a_changed_title(api: Api) -> None:
    found = api.chat("Hello")["conversation_id"]
    api.change(found, title=(title := unique("Renamed")))
    assert [item["id"] for item in api.list(q=title)["data"]] == [found]


def test_reading_does_not_postpone_expiry(api: Api) -> None:
    conversation = api.chat("Hello")["conversation_id"]
    before = api.read(conversation)["last_active"]
    time.sleep(0.005)
    assert api.read(conversation)["last_active"] == before == api.change(conversation, title="x")["last_active"]


def test_deep_metadata_is_stored_and_returned(api: Api) -> None:
    conversation = api.chat(mark := unique())["conversation_id"]
    path = f"/api/conversations/{conversation}"
    try:
        for depth in (*range(50, 900, 50), *range(900, 1000, 5)):
            body = b'{"metadata":{"a":' + b"[" * depth + b"]" * depth + b"}}"
            changed = api.request("PATCH", path, body=body, headers={"Content-Type": "application/json"})
            assert changed.status in {200, 400, 422}, depth
            found = [api.request("GET", f"/api/conversations?q={mark}").status, api.request("GET", path).status]
            assert found == [200, 200], depth
    finally:
        api.delete(conversation)


@pytest.mark.parametrize(
    "q", ["' OR '1'='1", '" OR 1=1 -- ', "'; DELETE FROM messages; -- ", "\\' OR 1=1 -- ", "%(q)s", ":q"]
)
def test_search_words_are_never_part_of_a_statement(api: Api, q: str) -> None:
    answer = api.chat(f"Hello {unique()}")
    assert api.list(q=f"{q}{unique()}")["data"] == []
    assert len(api.read(answer["conversation_id"])["messages"]["data"]) == 2


# Large pages end early


def test_page_of_large_messages_ends_early_with_a_cursor(embedded: Api) -> None:
    """Stores ten messages of 900 KB."""
    conversation: str = embedded.chat("x" * 900_000)["conversation_id"]
    for _ in range(4):
        embedded.chat("x" * 900_000, conversation_id=conversation)
    after: dict[str, str] = {}
    found: list[str] = []
    while page := embedded.read(conversation, **after)["messages"]:
        assert 0 < len(page["data"]) <= 4
        found += [message["id"] for message in page["data"]]
        if not page["has_more"]:
            break
        after = {"after": page["last_id"]}
    assert len(found) == len(set(found)) == 10
    token = embedded.request("POST", f"/api/conversations/{conversation}/share").json["token"]
    shared = embedded.request("GET", f"/api/shared/{token}").json["messages"]
    assert (0 < len(shared["data"]) <= 4, shared["has_more"]) == (True, True)

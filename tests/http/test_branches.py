"""Messages form a tree: regenerating and editing create siblings and overwrite nothing."""

from __future__ import annotations

from typing import Any

import pytest

from chatkeep.store.messages import ROWS
from tests.client import Response
from tests.http.api import Api, asked, unique
from tests.http.test_exports import a_conversation, fill
from tests.upstream import Upstream, reply_to


def regenerate(api: Api, reply: dict[str, Any], **options: Any) -> Response:
    path = f"/api/conversations/{reply['conversation_id']}/messages/{reply['message_id']}/regenerate"
    return api.request("POST", path, json=options.pop("json", {}), **options)


def edit(api: Api, conversation_id: str, message_id: str, message: str) -> Response:
    path = f"/api/conversations/{conversation_id}/messages/{message_id}/edit"
    return api.request("POST", path, json={"message": message})


def branch(api: Api, conversation_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.read(conversation_id)["messages"]["data"]
    return found


def test_regenerated_reply_is_a_sibling_of_the_old_one(api: Api) -> None:
    old = api.chat("What is a haiku?")
    new = regenerate(api, old).json
    question, reply = branch(api, old["conversation_id"])
    assert (question["role"], reply["id"]) == ("user", new["message_id"])
    assert reply["siblings"] == [old["message_id"], new["message_id"]]
    assert question["siblings"] == [question["id"]]
    assert reply["parent_id"] == question["id"]


def test_regenerating_sends_the_same_question_without_the_old_reply(api: Api, upstream: Upstream) -> None:
    message = unique("What is a haiku?")
    old = api.chat(message)
    regenerate(api, old, json={"temperature": 0.5, "model": "other"})
    first, second = asked(upstream, message)
    assert first.messages == second.messages
    assert (second.body["temperature"], second.body["model"]) == (0.5, "other")


def test_messages_after_a_regenerated_reply_leave_the_branch_and_stay_in_the_tree(api: Api) -> None:
    first = api.chat("one")
    api.chat("two", conversation_id=first["conversation_id"])
    new = regenerate(api, first).json
    assert [message["role"] for message in branch(api, first["conversation_id"])] == ["user", "assistant"]
    found = api.read(first["conversation_id"])
    assert (found["message_count"], found["current_id"]) == (5, new["message_id"])


def test_early_message_of_a_long_conversation_can_be_edited(api: Api) -> None:
    """More messages leave the branch than one transaction may change."""
    made, said = a_conversation([1_000 * number for number in range(1, ROWS + 50)], expires_at=None)
    fill(api.server.env["DATABASE_URL"], (made, said))
    of = str(made.id)
    assert edit(api, of, str(said[3].id), "A reply can't be edited").status == 422
    assert api.read(of)["current_id"] == str(said[-1].id), "the branch is as it was"
    assert len(branch(api, of)) == 100
    done = edit(api, of, str(said[2].id), unique("Three"))
    assert done.status == 200, done.body
    shown = branch(api, of)
    assert [message["id"] for message in shown[:2]] == [str(said[0].id), str(said[1].id)]
    assert shown[3]["id"] == done.json["message_id"]
    assert shown[2]["siblings"] == [str(said[2].id), shown[2]["id"]]
    switched = api.request("PATCH", f"/api/conversations/{of}", json={"current_id": str(said[2].id)})
    assert (switched.status, switched.json["current_id"]) == (200, str(said[-1].id))
    assert [message["content"] for message in branch(api, of)] == [message.content for message in said[:100]]


def test_edited_message_begins_its_own_branch(api: Api, upstream: Upstream) -> None:
    first = api.chat("one")
    second = api.chat("two", conversation_id=first["conversation_id"])
    changed = unique("zwei")
    asked_id = branch(api, first["conversation_id"])[2]["id"]
    answer = edit(api, first["conversation_id"], asked_id, changed).json
    shown = branch(api, first["conversation_id"])
    assert [message["content"] for message in shown] == ["one", reply_to("one"), changed, reply_to(changed)]
    assert asked_id in shown[2]["siblings"]
    assert second["message_id"] not in shown[3]["siblings"]
    assert answer["message_id"] == shown[3]["id"]
    assert [sent["content"] for sent in asked(upstream, changed)[0].messages] == ["one", reply_to("one"), changed]


def test_first_message_can_be_edited(api: Api) -> None:
    first = api.chat("one")
    question = branch(api, first["conversation_id"])[0]
    edit(api, first["conversation_id"], question["id"], "uno")
    shown = branch(api, first["conversation_id"])
    assert [message["content"] for message in shown] == ["uno", reply_to("uno")]
    assert shown[0]["siblings"] == [question["id"], shown[0]["id"]]


@pytest.mark.parametrize("by", [0, 1, 3], ids=["its question", "its reply", "its end"])
def test_any_message_selects_its_branch(api: Api, by: int) -> None:
    first = api.chat("one")
    api.chat("two", conversation_id=first["conversation_id"])
    old = [message["id"] for message in branch(api, first["conversation_id"])]
    edit(api, first["conversation_id"], old[0], "uno")
    assert api.change(first["conversation_id"], current_id=old[by])["current_id"] == old[3]
    assert [message["id"] for message in branch(api, first["conversation_id"])] == old


def test_context_follows_the_selected_branch(api: Api, upstream: Upstream) -> None:
    first = api.chat("one")
    new = regenerate(api, first, json={"model": "other"}).json
    api.change(first["conversation_id"], current_id=first["message_id"])
    message = unique("go on")
    reply = api.chat(message, conversation_id=first["conversation_id"])
    assert len(asked(upstream, message)[0].messages) == 3
    shown = branch(api, first["conversation_id"])
    assert [shown[1]["id"], shown[3]["id"]] == [first["message_id"], reply["message_id"]]
    assert new["message_id"] in shown[1]["siblings"]


def test_message_of_another_conversation_selects_no_branch(api: Api) -> None:
    mine, other = api.chat("one"), api.chat("two")
    response = api.request(
        "PATCH", f"/api/conversations/{mine['conversation_id']}", json={"current_id": other["message_id"]}
    )
    assert (response.status, response.json["errors"][0]["field"]) == (422, "current_id")
    stolen = {"conversation_id": mine["conversation_id"], "message_id": other["message_id"]}
    assert regenerate(api, stolen).status == 404


def test_only_replies_can_be_regenerated_and_only_questions_edited(api: Api) -> None:
    answer = api.chat("one")
    question = branch(api, answer["conversation_id"])[0]
    wrong = regenerate(api, {"conversation_id": answer["conversation_id"], "message_id": question["id"]})
    assert (wrong.status, wrong.json["code"]) == (422, "invalid_fields")
    wrong = edit(api, answer["conversation_id"], answer["message_id"], "uno")
    assert (wrong.status, wrong.json["code"]) == (422, "invalid_fields")
    assert api.read(answer["conversation_id"])["message_count"] == 2


def test_branch_cannot_change_while_a_reply_is_generated(api: Api) -> None:
    first = api.chat("one")
    with api.running("two #n=40,r=20#", conversation_id=first["conversation_id"]) as running:
        assert regenerate(api, first).json["code"] == "turn_running"
        path = f"/api/conversations/{first['conversation_id']}"
        refused = api.request("PATCH", path, json={"current_id": running.start["message_id"]})
        assert refused.status == 200  # already the end of the branch
        refused = api.request("PATCH", path, json={"current_id": first["message_id"]})
        assert refused.json["code"] == "turn_running"
        api.stop(first["conversation_id"])


def test_repeated_regeneration_with_a_key_runs_once(api: Api) -> None:
    old, key = api.chat("one"), {"Idempotency-Key": unique("key").replace(" ", "-")}
    first, second = (regenerate(api, old, headers=key).json for _ in range(2))
    assert first["message_id"] == second["message_id"]
    assert api.read(old["conversation_id"])["message_count"] == 3

"""Expired conversations are hidden immediately and deleted soon after."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import make_url

from chatkeep.domain.conversation import now_us
from chatkeep.store.messages import ROWS
from tests.http.api import Api, eventually, unique
from tests.http.test_exports import a_conversation, fill


def test_expired_conversation_is_swept_with_its_messages(own: Api) -> None:
    """Waits for a TTL of a second and the next sweep."""
    gone = own.chat(unique("Forget me"), ttl=1)["conversation_id"]
    kept = own.chat(unique("Keep me"), ttl=None)["conversation_id"]
    assert eventually(lambda: own.count("conversations", "id = :id", id=_bytes(gone)) == 0)
    assert own.count("messages", "conversation_id = :id", id=_bytes(gone)) == 0
    assert own.read(kept)["message_count"] == 2


def test_pinned_conversation_is_not_swept(own: Api) -> None:
    """Waits for the sweep of an unpinned conversation."""
    pinned = own.chat(unique("Pin me"))["conversation_id"]
    own.change(pinned, ttl=1, pinned=True)
    gone = own.chat(unique("Forget me"), ttl=1)["conversation_id"]
    assert eventually(lambda: own.count("conversations", "id = :id", id=_bytes(gone)) == 0)
    assert own.read(pinned)["expires_at"] is None


def test_conversation_with_a_running_reply_is_not_swept(own: Api) -> None:
    """The reply takes longer than the TTL of its conversation."""
    with own.running("Go on #n=60,r=20#", ttl=1) as running:
        assert running.rest().data["status"] == "completed"
    assert own.read(running.id)["message_count"] == 2


def test_long_conversation_with_a_running_reply_stays_deleted(own: Api) -> None:
    """The sweep deletes it in steps. The end of the reply must not restore it."""
    made, said = a_conversation([now_us() - 1000 * number for number in range(ROWS + 1, 0, -1)])
    fill(own.server.env["DATABASE_URL"], (made, said))
    with own.running("Go on #n=100,r=50#", conversation_id=str(made.id)) as running:
        assert own.delete(running.id).status == 200
        assert running.rest().event == "error"
    assert eventually(lambda: own.count("conversations", "id = :id", id=made.id.bytes) == 0)
    assert own.request("GET", f"/api/conversations/{made.id}").status == 404


def test_swept_or_deleted_text_is_not_in_the_database_file(embedded: Api) -> None:
    """Waits for the sweep that empties the write-ahead log, which has each step of a long reply."""
    canary = unique("CANARY")
    swept = embedded.chat(f"{canary} #n=2000,r=0#", ttl=1)["conversation_id"]
    deleted = embedded.chat(f"{canary} #n=2000,r=0#", cache=False)["conversation_id"]
    assert canary in _files(embedded)
    embedded.delete(deleted)
    assert eventually(lambda: embedded.count("conversations", "id = :id", id=_bytes(swept)) == 0)
    assert eventually(lambda: canary not in _files(embedded))


def _bytes(id: str) -> bytes:
    return bytes.fromhex(id.replace("-", ""))


def _files(api: Api) -> str:
    """Return the bytes of all files of the embedded database."""
    path = Path(str(make_url(api.server.env["DATABASE_URL"]).database))
    return "".join(file.read_bytes().decode("latin-1") for file in path.parent.glob(f"{path.name}*"))

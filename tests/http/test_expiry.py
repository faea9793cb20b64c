"""What has expired is not seen from that moment on, and deleted for good soon after."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import make_url

from chatkeep.domain.conversation import now_us
from chatkeep.store.messages import ROWS
from tests.http.api import Api, eventually, unique
from tests.http.test_exports import a_conversation, fill


def test_what_has_expired_is_swept_with_its_messages(own: Api) -> None:
    """Waits for a ttl of one second and the next sweep."""
    gone = own.chat(unique("Forget me"), ttl=1)["conversation_id"]
    kept = own.chat(unique("Keep me"), ttl=None)["conversation_id"]
    assert eventually(lambda: own.count("conversations", "id = :id", id=_bytes(gone)) == 0)
    assert own.count("messages", "conversation_id = :id", id=_bytes(gone)) == 0
    assert own.read(kept)["message_count"] == 2


def test_a_pinned_conversation_is_kept(own: Api) -> None:
    """Waits for what is not pinned to be swept."""
    pinned = own.chat(unique("Pin me"))["conversation_id"]
    own.change(pinned, ttl=1, pinned=True)
    gone = own.chat(unique("Forget me"), ttl=1)["conversation_id"]
    assert eventually(lambda: own.count("conversations", "id = :id", id=_bytes(gone)) == 0)
    assert own.read(pinned)["expires_at"] is None


def test_a_running_reply_is_spared(own: Api) -> None:
    """The reply takes longer than its conversation's ttl."""
    with own.running("Go on #n=60,r=20#", ttl=1) as running:
        assert running.rest().data["status"] == "completed"
    assert own.read(running.id)["message_count"] == 2


def test_a_long_conversation_stays_deleted_though_its_reply_was_running(own: Api) -> None:
    """It is removed by the sweep, a bit at a time; the reply's end must not bring it back."""
    made, said = a_conversation([now_us() - 1000 * number for number in range(ROWS + 1, 0, -1)])
    fill(own.server.env["DATABASE_URL"], (made, said))
    with own.running("Go on #n=100,r=50#", conversation_id=str(made.id)) as running:
        assert own.delete(running.id).status == 200
        assert running.rest().event == "error"
    assert eventually(lambda: own.count("conversations", "id = :id", id=made.id.bytes) == 0)
    assert own.request("GET", f"/api/conversations/{made.id}").status == 404


def test_what_was_swept_or_deleted_is_not_in_the_file(embedded: Api) -> None:
    """Waits for the sweep that empties the write-ahead log. A long reply was written in many steps, each a trace."""
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
    """Return all that the embedded database keeps."""
    path = Path(str(make_url(api.server.env["DATABASE_URL"]).database))
    return "".join(file.read_bytes().decode("latin-1") for file in path.parent.glob(f"{path.name}*"))

"""Keys are created, listed, rotated and revoked, by the command line and the API."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.cookies import SimpleCookie
from pathlib import Path
from subprocess import CompletedProcess
from threading import Event
from uuid import uuid4

import pytest

from chatkeep.auth.access import NewKey, Scope, digest_of, owner_of
from chatkeep.auth.keys import KeySpec, create_key, revoke_key, rotate_key, sign_in
from chatkeep.domain.conversation import now_us
from chatkeep.errors import KeyEnded, KeyRevoked
from chatkeep.store import keys
from chatkeep.store.engine import Database
from chatkeep.store.journal import Journal
from tests.auth.keys import Identity, bearer, make_key
from tests.cli.line import run
from tests.client import request
from tests.http.api import eventually
from tests.servers import Server

KEY = re.compile(r"ck_[A-Za-z0-9]{8}_[A-Za-z0-9]{40}")
LIST = "/api/conversations"


def line(folder: Path, *arguments: str) -> CompletedProcess[str]:
    return run(folder, "keys", *arguments)


def stored(folder: Path, text: str) -> keys.Key:
    database = Database(f"sqlite:///{(folder / 'data' / 'chatkeep.sqlite3').as_posix()}")
    found = database.read(lambda connection: keys.named(connection, text[3:11]))
    database.close()
    assert found
    return found


def test_create_prints_only_the_key_and_stores_only_its_hash(tmp_path: Path) -> None:
    """Starts processes: a second."""
    made = line(tmp_path, "create", "our app")
    assert KEY.fullmatch(made.stdout.strip())
    found = stored(tmp_path, made.stdout)
    assert (found.name, found.account, found.scopes, found.expires_at) == (
        "our app", "local", ("chat", "read", "export"), None,
    )  # fmt: skip
    assert found.digest == digest_of(made.stdout.strip())
    secret = made.stdout.strip().rpartition("_")[2].encode()
    assert all(secret not in file.read_bytes() for file in (tmp_path / "data").glob("chatkeep.sqlite3*"))
    assert made.stdout.strip() not in line(tmp_path, "list").stdout


def test_create_stores_the_requested_properties(tmp_path: Path) -> None:
    """Starts a process: half a second."""
    made = line(tmp_path, "create", "网页", "--account", "shop-1", "--scopes", "read, admin", "--expires", "90d")
    found = stored(tmp_path, made.stdout)
    assert (found.name, found.account, found.scopes) == ("网页", "shop-1", ("read", "admin"))
    assert found.expires_at == found.created_at + 90 * 86400 * 1_000_000


@pytest.mark.parametrize(
    "arguments",
    [
        ("create", ""), ("create", "a\nb"), ("create", "a", "--account", "Big"), ("create", "a", "--account", ""),
        ("create", "a", "--scopes", ""), ("create", "a", "--scopes", "chat,write"), ("create", "a", "--expires", "90"),
        ("revoke", "ck_12345678"), ("revoke", "x"), ("rotate", "ck_12345678"), ("create",), ("create", "a\udcff"),
        ("create", "a", "--expires", "0s"),
        ("change", "ck_12345678", "--name", "a"), ("change", "ck_12345678"),
    ],
)  # fmt: skip
def test_invalid_arguments_are_explained(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Starts a process: half a second."""
    done = line(tmp_path, *arguments)
    assert (done.returncode in {1, 2}, done.stdout) == (True, "")
    assert "Traceback" not in done.stderr


def test_rotate_replaces_the_key(tmp_path: Path) -> None:
    """Starts processes: two seconds."""
    old = line(tmp_path, "create", "app", "--account", "shop", "--scopes", "chat", "--expires", "1h").stdout.strip()
    new = line(tmp_path, "rotate", old[:11], "--overlap", "10m").stdout.strip()
    later = line(tmp_path, "rotate", new[3:11]).stdout.strip()
    first, second, third = (stored(tmp_path, text) for text in (old, new, later))
    assert {(key.name, key.account, key.scopes) for key in (first, second, third)} == {("app", "shop", ("chat",))}
    assert first.revoked_at is None
    assert second.created_at < (first.expires_at or 0) - 599_000_000 < second.created_at + 60_000_000
    assert second.revoked_at
    assert (third.expires_at or 0) - third.created_at == 3600 * 1_000_000
    assert line(tmp_path, "rotate", new[:11]).returncode == 1


def test_revoke_by_prefix_is_shown_in_the_list(tmp_path: Path) -> None:
    """Starts processes: two seconds."""
    made = [line(tmp_path, "create", name).stdout.strip() for name in ("one", "two")]
    assert line(tmp_path, "revoke", made[0]).returncode == 0  # a leaked key is at hand as a whole
    _, first, second = line(tmp_path, "list").stdout.splitlines()
    assert (first.split()[:2], first.split()[-1]) == ([made[0][:11], "one"], "revoked")
    assert (second.split()[:2], "forever" in second) == ([made[1][:11], "two"], True)


def operator(server: Server) -> Identity:
    return Identity(server, bearer(make_key(server.env["DATABASE_URL"], "ops", Scope.ADMIN).text))


def test_operator_creates_keys_of_all_accounts_and_lists_each_once(keyed: Server) -> None:
    admin = operator(keyed)
    asked = {"name": "an app", "account": "shop", "scopes": ["read", "chat"], "expires_in": 60}
    made = admin.request("POST", "/api/keys", json=asked)
    assert made.status == 201
    assert KEY.fullmatch(made.json["key"])
    assert (made.json["account"], made.json["scopes"]) == ("shop", ["chat", "read"])
    read = admin.get(f"/api/keys/{made.json['id']}")
    assert read.json == {name: value for name, value in made.json.items() if name != "key"}
    assert made.json["key"] not in admin.get("/api/keys?limit=100").text
    assert Identity(keyed, bearer(made.json["key"])).get(LIST).status == 200


def test_keys_are_listed_in_pages(keyed: Server) -> None:
    admin = operator(keyed)
    made = [admin.request("POST", "/api/keys", json={"name": f"n{number}"}).json["id"] for number in range(3)]
    newest = admin.get("/api/keys?limit=2").json
    assert ([key["id"] for key in newest["data"]], newest["has_more"]) == (made[:0:-1], True)
    rest = admin.get(f"/api/keys?limit=2&after={newest['last_id']}").json
    assert rest["data"][0]["id"] == made[0]
    gone = f"{made[1][:-4]}0000"  # no key has this id, which lies before the second one's
    behind = {order: admin.get(f"/api/keys?limit=1&order={order}&after={gone}") for order in ("asc", "desc")}
    assert {order: listed.json["first_id"] for order, listed in behind.items()} == {"asc": made[1], "desc": made[0]}


def test_operator_revokes_and_rotates_keys(keyed: Server) -> None:
    """Waits until a server has seen it: some seconds."""
    admin = operator(keyed)
    made = admin.request("POST", "/api/keys", json={"name": "app", "account": "shop"}).json
    turned = admin.request("POST", f"/api/keys/{made['id']}/rotate", json={})
    assert (turned.status, turned.json["account"], turned.json["id"] != made["id"]) == (201, "shop", True)
    assert admin.request("POST", f"/api/keys/{made['id']}/rotate", json={}).json["code"] == "key_ended"
    ended = [admin.request("DELETE", f"/api/keys/{turned.json['id']}").json["revoked_at"] for _ in range(2)]
    assert ended[0]
    assert ended[0] == ended[1]
    deadline = time.monotonic() + 5
    while any(Identity(keyed, bearer(key["key"])).get(LIST).status != 401 for key in (made, turned.json)):
        assert time.monotonic() < deadline


@pytest.mark.parametrize(
    "body",
    [
        {}, {"name": ""}, {"name": "x" * 129}, {"name": "a\nb"}, {"name": "a", "account": "Big"},
        {"name": "a", "account": "a/b"}, {"name": "a", "scopes": []}, {"name": "a", "scopes": ["write"]},
        {"name": "a", "expires_in": 0}, {"name": "a", "digest": "x"}, {"name": "a", "parent_id": None},
    ],
)  # fmt: skip
def test_invalid_key_properties_are_refused(keyed: Server, body: dict[str, object]) -> None:
    assert operator(keyed).request("POST", "/api/keys", json=body).status == 422


def test_last_use_of_a_key_is_stored(keyed: Server) -> None:
    """Waits until the server writes it down: a second or two."""
    admin = operator(keyed)
    made = admin.request("POST", "/api/keys", json={"name": "used"}).json
    assert admin.get(f"/api/keys/{made['id']}").json["last_used_at"] is None
    assert Identity(keyed, bearer(made["key"])).get(LIST).status == 200
    deadline = time.monotonic() + 5
    while not (used := admin.get(f"/api/keys/{made['id']}").json["last_used_at"]):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert used >= made["created_at"]


def test_change_sets_name_and_limits(tmp_path: Path) -> None:
    """Starts processes: two seconds."""
    text = line(tmp_path, "create", "app", "--limits", '{"requests_per_day": 5}').stdout.strip()
    assert line(tmp_path, "change", text[:11], "--name", "new").returncode == 0
    changed = stored(tmp_path, text)
    assert (changed.name, changed.limits) == ("new", '{"requests_per_day":5}')
    assert line(tmp_path, "change", text[:11], "--limits", "{}").returncode == 0
    assert stored(tmp_path, text).limits is None


def test_operator_changes_only_the_given_properties(keyed: Server) -> None:
    admin = operator(keyed)
    made = admin.request("POST", "/api/keys", json={"name": "app", "limits": {"requests_per_day": 5}}).json
    path, told = f"/api/keys/{made['id']}", {name: value for name, value in made.items() if name != "key"}
    assert admin.request("PATCH", path, json={}).json == told
    renamed = admin.request("PATCH", path, json={"name": "new"}).json
    assert renamed == told | {"name": "new"}
    limited = admin.request("PATCH", path, json={"limits": {"concurrent_replies": 2}}).json
    assert limited == renamed | {"limits": {"concurrent_replies": 2}}
    assert admin.request("PATCH", path, json={"limits": None}).json["limits"] is None
    assert admin.get(path).json["name"] == "new"


@pytest.mark.parametrize(
    "body",
    [
        {"name": None}, {"name": ""}, {"name": "a\nb"}, {"scopes": ["admin"]}, {"account": "ops"}, {"expires_in": 9},
        {"limits": {"requests_per_day": 0}}, {"limits": {"requests": 1}}, {"limits": 5},
    ],
)  # fmt: skip
def test_scopes_cannot_be_changed(keyed: Server, body: dict[str, object]) -> None:
    admin = operator(keyed)
    made = admin.request("POST", "/api/keys", json={"name": "app"}).json
    assert admin.request("PATCH", f"/api/keys/{made['id']}", json=body).status == 422


def test_key_can_be_restricted_to_one_end_user(keyed: Server, tmp_path: Path) -> None:
    """Starts a process: half a second."""
    admin, name = operator(keyed), f"阿丽 {uuid4()}"
    made = admin.request("POST", "/api/keys", json={"name": "phone", "end_user": name}).json
    assert (made["end_user"], name in str(made)) == (True, False)
    theirs = Identity(keyed, bearer(made["key"]))
    app = Identity(keyed, bearer(make_key(keyed.env["DATABASE_URL"], "local").text))
    path = f"/api/conversations/{theirs.chat('hello')['conversation_id']}"
    assert [who.get(path).status for who in (theirs, app.named(name), app.named("bob"), app)] == [200, 200, 404, 404]
    assert theirs.named(name).get(path).status == 422
    text = line(tmp_path, "create", "phone", "--account", "shop", "--end-user", name).stdout
    assert stored(tmp_path, text).end_user == owner_of("shop", name).partition("/")[2]
    for wrong in ("", "a\nb", "x" * 256):
        assert admin.request("POST", "/api/keys", json={"name": "phone", "end_user": wrong}).status == 422


SIGNED_IN = {"Sec-Fetch-Site": "same-origin"}


def session(server: Server, key: str) -> str:
    """Sign in with a key; return the key that the page gets."""
    answer = request("POST", f"{server.url}/api/sign-in", json={"key": key}, headers=SIGNED_IN)
    return SimpleCookie(answer.headers["Set-Cookie"])["chatkeep_key"].value


def test_rotated_session_expires_with_its_parent_key(keyed: Server) -> None:
    """Waits until a server has seen a revocation: some seconds."""
    admin = operator(keyed)
    parent = admin.request("POST", "/api/keys", json={"name": "app", "account": "shop", "expires_in": 600}).json
    turned, text = parent, session(keyed, parent["key"])
    for overlap in ({}, {"overlap": 60}, {}):  # a chain of rotations
        old = next(one for one in admin.get("/api/keys?limit=100").json["data"] if text.startswith(one["prefix"]))
        turned = admin.request("POST", f"/api/keys/{old['id']}/rotate", json=overlap).json
        assert (turned["parent_id"], turned["account"]) == (parent["id"], "shop")
        assert turned["expires_at"] <= parent["expires_at"]
        text = turned["key"]
    assert Identity(keyed, bearer(text)).get(LIST).status == 200
    assert Identity(keyed, bearer(session(keyed, text))).get(LIST).status == 200
    admin.request("DELETE", f"/api/keys/{parent['id']}")
    assert eventually(lambda: Identity(keyed, bearer(text)).statuses(LIST) == {401})
    assert admin.request("POST", f"/api/keys/{turned['id']}/rotate", json={}).json["code"] == "key_ended"


@pytest.mark.parametrize("overlap", [0, 60])
def test_rotating_a_key_ends_its_sessions(keyed: Server, overlap: int) -> None:
    admin = operator(keyed)
    parent = admin.request("POST", "/api/keys", json={"name": "app"}).json
    session(keyed, parent["key"])
    admin.request("POST", f"/api/keys/{parent['id']}/rotate", json={"overlap": overlap} if overlap else {})
    [child] = [one for one in admin.get("/api/keys?limit=100").json["data"] if one["parent_id"] == parent["id"]]
    old = admin.get(f"/api/keys/{parent['id']}").json
    ended = "expires_at" if overlap else "revoked_at"
    assert child[ended]
    assert child[ended] == old[ended]


@pytest.mark.parametrize("way", ["sign in", "sign in with a session", "rotate a session"])
def test_sign_in_during_a_revocation_creates_no_session(database_url: str, way: str) -> None:
    """The revocation waits for another transaction, and the sign-in still reads the key as live."""
    database, free = Database(database_url), Event()
    journal = Journal(database)
    parent = create_key(journal, KeySpec("app"))
    child = sign_in(database, journal, parent.text, "r")
    made: dict[str, Callable[[], NewKey]] = {
        "sign in": lambda: sign_in(database, journal, parent.text, "r"),
        "sign in with a session": lambda: sign_in(database, journal, child.text, "r"),
        "rotate a session": lambda: rotate_key(journal, child.key.id),
    }
    with ThreadPoolExecutor(3) as pool:
        pool.submit(journal.write, lambda _: free.wait(10))
        time.sleep(0.1)
        pool.submit(revoke_key, journal, parent.key.id)
        time.sleep(0.1)
        late = pool.submit(made[way])
        time.sleep(0.1)
        free.set()
        with pytest.raises((KeyRevoked, KeyEnded)):
            late.result(10)
    found = database.read(lambda connection: keys.page(connection, limit=10, after=None, ascending=True))
    assert [key.is_live(now_us()) for key in found] == [False, False]
    journal.close()
    database.close()


def test_concurrent_rotations_replace_a_key_once(keyed: Server) -> None:
    admin = operator(keyed)
    made = admin.request("POST", "/api/keys", json={"name": "app"}).json["id"]
    with ThreadPoolExecutor(8) as pool:
        done = [pool.submit(admin.request, "POST", f"/api/keys/{made}/rotate", json={}) for _ in range(8)]
    assert sorted(one.result().status for one in done) == [201, *[409] * 7]

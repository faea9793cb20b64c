"""Quotas apply to a key, an end user, or a whole account."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from chatkeep.auth.access import NewKey, Scope, make_child
from chatkeep.domain.conversation import new_id, now_us
from chatkeep.store import keys
from tests.auth.keys import Identity, bearer, journal_of, make_key
from tests.conftest import EMBEDDED_AND_SERVER, serving
from tests.http.api import eventually, unique
from tests.servers import Server
from tests.upstream import Upstream

LIMITS = {
    "key": {"requests_per_minute": 3, "tokens_per_day": 100_000},
    "end_user": {"requests_per_minute": 2, "concurrent_replies": 2},
    "account": {"requests_per_day": 5},
}


@pytest.fixture(scope="module", params=[("waitress", database) for database in EMBEDDED_AND_SERVER], ids="-".join)
def limited(
    request: pytest.FixtureRequest, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server with quotas; each test has accounts of its own."""
    with serving(request, upstream, tmp_path_factory, CHATKEEP_LIMITS=json.dumps(LIMITS)) as running:
        yield running


@pytest.fixture
def account() -> str:
    return unique("a").replace(" ", "-")[:32]


def key_of(server: Server, account: str, *scopes: Scope, **wanted: Any) -> Identity:
    """Return a caller with a new key of an account."""
    return Identity(server, bearer(make_key(server.env["DATABASE_URL"], account, *scopes, **wanted).text))


def asked(by: Identity, times: int) -> list[int]:
    """Take turns and return the statuses."""
    return [by.request("POST", "/api/chat", json={"message": unique()}).status for _ in range(times)]


def test_each_key_has_its_own_limit(limited: Server, account: str) -> None:
    one, other = key_of(limited, account), key_of(limited, account)
    assert asked(one, 4) == [200, 200, 200, 429]
    assert asked(other, 1) == [200]


def test_changed_limits_apply_to_sessions_of_the_key(limited: Server, account: str) -> None:
    """Waits until the server has seen it: a second or two. What was used stays counted."""
    made = make_key(limited.env["DATABASE_URL"], account)
    child = make_child(made.key, new_id(), now_us())
    admin = key_of(limited, "ops", Scope.ADMIN)
    with journal_of(limited.env["DATABASE_URL"]) as journal:
        journal.write(lambda connection: keys.insert(connection, child.key))
    by, signed_in = (Identity(limited, bearer(text)) for text in (made.text, child.text))
    assert asked(by, 2) == [200, 200]
    path = f"/api/keys/{made.key.id}"
    assert admin.request("PATCH", path, json={"limits": {"requests_per_minute": 2}}).status == 200
    assert asked(by, 1) + asked(signed_in, 1) == [429, 429]
    assert admin.request("PATCH", path, json={"limits": {"requests_per_minute": 4}}).status == 200
    assert asked(by, 1) + asked(signed_in, 2) == [200, 200, 429]


def test_limit_of_an_end_user_spans_all_keys(limited: Server, account: str) -> None:
    one, other = key_of(limited, account), key_of(limited, account)
    assert asked(one.named("alice"), 1) + asked(other.named("alice"), 2) == [200, 200, 429]
    assert asked(one.named("bob"), 1) == [200]


def test_limit_of_a_key_spans_all_end_users(limited: Server, account: str) -> None:
    by = key_of(limited, account, Scope.CHAT, Scope.READ)
    assert asked(by.named("alice"), 2) + asked(by.named("bob"), 2) == [200, 200, 200, 429]
    assert eventually(lambda: told(by)["requests"] == 3)
    keys_used = [row["key"] for row in by.get("/api/usage?group_by=key").json["data"]]
    assert len(keys_used) == 1
    assert keys_used[0]


def test_limit_of_an_account_spans_all_keys(limited: Server, account: str) -> None:
    mine = [key_of(limited, account).named(name) for name in ("alice", "bob", "carol")]
    assert [status for by in mine for status in asked(by, 2)] == [200] * 5 + [429]
    assert asked(key_of(limited, f"x{account}"[:32]), 1) == [200]


def test_requests_of_end_users_count_for_the_key(limited: Server, account: str) -> None:
    by = key_of(limited, account)
    assert [asked(by.named(name), 1) for name in ("alice", "bob", "carol", "dora")] == [[200], [200], [200], [429]]


def test_refused_request_of_an_end_user_does_not_count_for_the_account(limited: Server, account: str) -> None:
    by = key_of(limited, account)
    assert asked(by.named("alice"), 5) == [200, 200, 429, 429, 429]
    assert asked(by.named("bob"), 1) == [200]
    assert asked(key_of(limited, account), 2) == [200, 200]


def test_key_can_have_its_own_limits(limited: Server, account: str) -> None:
    by = key_of(limited, account, limits='{"requests_per_minute": 1}')
    first = by.request("POST", "/api/chat", json={"message": unique()})
    assert '"key.requests_per_minute";q=1;w=60' in first.headers["RateLimit-Policy"]
    assert '"key.tokens_per_day";q=100000;w=86400' in first.headers["RateLimit-Policy"]
    assert asked(by, 1) == [429]
    free = key_of(limited, account, limits='{"requests_per_minute": null}')
    assert asked(free, 4) == [200] * 4


def test_signing_in_again_does_not_reset_limits(limited: Server, account: str) -> None:
    made = make_key(limited.env["DATABASE_URL"], account)
    signed_in = [Identity(limited, bearer(child_of(limited, made).text)) for _ in range(2)]
    assert asked(signed_in[0], 2) + asked(signed_in[1], 2) == [200, 200, 200, 429]


def child_of(server: Server, made: NewKey) -> NewKey:
    """Sign in with a key, and return the session's key."""
    child = make_child(made.key, new_id(), now_us())
    with journal_of(server.env["DATABASE_URL"]) as journal:
        journal.write(lambda connection: keys.insert(connection, child.key))
    return child


def test_concurrent_replies_are_counted_for_each_end_user(limited: Server, account: str) -> None:
    by = key_of(limited, account)
    slow = [by.named("alice").stream(unique("#n=100,r=20#")), by.stream(unique("#n=100,r=20#"))]
    policy = by.named("alice").request("POST", "/api/chat", json={"message": unique()}).headers["RateLimit"]
    assert '"end_user.concurrent_replies";r=0' in policy
    for stream in slow:
        stream.close()


def test_usage_is_shown_to_its_owner_only(limited: Server, account: str) -> None:
    by = key_of(limited, account, Scope.CHAT, Scope.READ)
    other = key_of(limited, f"y{account}"[:32], Scope.CHAT, Scope.READ)
    assert asked(by, 1) + asked(by.named("alice"), 1) + asked(other, 1) == [200] * 3
    assert eventually(lambda: told(by)["requests"] == 2)
    assert told(by.named("alice"))["requests"] == 1
    assert told(by.named("bob"))["requests"] == 0
    assert eventually(lambda: told(other)["requests"] == 1)
    rows = by.get("/api/usage?group_by=account,end_user").json["data"]
    assert [row["account"] for row in rows] == [account] * 2
    assert [bool(row["end_user"]) for row in rows] == [False, True]
    everything = key_of(limited, account, Scope.ADMIN).get("/api/usage?group_by=account").json["data"]
    found = {row["account"]: row["requests"] for row in everything}
    assert (found[account], found[f"y{account}"[:32]]) == (2, 1)
    assert key_of(limited, account, Scope.EXPORT).get("/api/usage").status == 403


def told(by: Identity) -> Any:
    """Return the total usage of a caller."""
    return by.get("/api/usage").json["total"]


def test_operator_sets_limits_through_the_api(limited: Server, account: str) -> None:
    operator = key_of(limited, "local", Scope.ADMIN)
    wanted = {"name": "a trial", "account": account, "limits": {"requests_per_minute": 1, "tokens_per_day": None}}
    made = operator.request("POST", "/api/keys", json=wanted)
    assert made.json["limits"] == wanted["limits"] == operator.get(f"/api/keys/{made.json['id']}").json["limits"]
    assert asked(Identity(limited, bearer(made.json["key"])), 2) == [200, 429]
    refused = operator.request("POST", "/api/keys", json=wanted | {"limits": {"requests_per_minute": 0}})
    assert (refused.status, refused.json["errors"][0]["field"]) == (422, "limits.requests_per_minute")


def test_command_sets_limits(limited: Server, account: str) -> None:
    """Starts two processes: about two seconds."""
    own = ["--account", account, "--scopes", "chat", "--limits", '{"requests_per_minute": 1}']
    made = created(limited, *own)
    assert asked(Identity(limited, bearer(made.stdout.strip())), 2) == [200, 429]
    refused = created(limited, "--limits", '{"requests": 1}')
    assert refused.returncode
    assert "requests_per_minute" in refused.stderr


def created(server: Server, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "chatkeep", "keys", "create", "a test", *options]
    return subprocess.run(
        command, env=server.environment(), cwd=server.folder, capture_output=True, text=True, check=False
    )

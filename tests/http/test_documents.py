"""Headers of every answer, CORS, and the served documents."""

from __future__ import annotations

import gzip
import re
from typing import Any
from uuid import uuid4

import pytest

from tests.http.api import Api

ORIGIN = "https://app.example.com"
PATHS = [
    "/",
    "/docs",
    "/openapi.json",
    "/openapi-3.1.json",
    "/openapi-3.2.json",
    "/health",
    "/health/live",
    "/health/ready",
    "/api/conversations",
    "/api/nope",
]


@pytest.mark.parametrize("path", PATHS)
def test_every_answer_has_an_id_and_its_declared_type(api: Api, path: str) -> None:
    headers = api.request("GET", path).headers
    assert len(headers["X-Request-Id"]) == 32
    assert (headers["X-Content-Type-Options"], headers["Referrer-Policy"]) == ("nosniff", "no-referrer")
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert len(headers.get_all("Content-Security-Policy", [])) == 1
    assert headers["Strict-Transport-Security"] is None


def test_private_answers_are_not_stored_by_http_caches(api: Api) -> None:
    answer = api.post("Hello")
    conversation = f"/api/conversations/{answer.json['conversation_id']}"
    answers = [answer, api.post(""), api.post("Hello", stream=True), api.request("POST", f"{conversation}/stop")]
    answers += [api.request("GET", path) for path in (conversation, "/api/conversations", "/api/nope")]
    answers += [api.request("PATCH", conversation, json={}), api.request("DELETE", conversation)]
    kept = [one.headers["Cache-Control"] for one in answers]
    assert kept == ["no-store", "no-store", "no-store, no-transform", *["no-store"] * 6]
    assert ["Authorization" in one.headers["Vary"].split(", ") for one in answers] == [True] * 9


@pytest.mark.parametrize("path", ["/", "/docs", "/admin"])
def test_csp_allows_only_own_files(api: Api, path: str) -> None:
    page = api.request("GET", path)
    assert (page.status, page.headers.get_content_type()) == (200, "text/html")
    rules = dict(rule.strip().split(" ", 1) for rule in page.headers["Content-Security-Policy"].split(";"))
    assert (rules["default-src"], rules["script-src"], rules["frame-ancestors"]) == ("'none'", "'self'", "'none'")
    assert "unsafe" not in page.headers["Content-Security-Policy"]
    assert (page.headers["X-Frame-Options"], page.headers["Cross-Origin-Opener-Policy"]) == ("DENY", "same-origin")
    assert "camera=()" in page.headers["Permissions-Policy"]
    assert b"<script>" not in page.body
    assert b"://" not in page.body.replace(b"http://www.w3.org/", b"")


def test_health_reports_its_checks(api: Api) -> None:
    health = api.request("GET", "/health").json
    assert (health["status"], health["database"], health["provider"]) == ("ok", "ok", "openai")
    for path in ("/health/live", "/health/ready"):
        assert api.request("GET", path).json == {"status": "ok"}


def test_openapi_document_describes_the_served_routes(api: Api) -> None:
    document = api.request("GET", "/openapi.json").json
    assert document["openapi"].startswith("3.2.")
    assert api.request("GET", "/openapi-3.2.json").json == document
    assert api.request("GET", "/openapi-3.1.json").json["openapi"].startswith("3.1.")
    read = document["paths"]["/api/conversations/{conversation_id}"]["get"]
    assert read["responses"]["200"]["content"]["application/json"]["schema"]
    missing = document["components"]["responses"][read["responses"]["404"]["$ref"].rpartition("/")[2]]
    assert missing["content"]["application/problem+json"]["schema"]
    assert "text/event-stream" in document["paths"]["/api/chat"]["post"]["responses"]["200"]["content"]


def test_swagger_ui_loads_the_3_1_document(api: Api) -> None:
    """It supports no newer version."""
    (path,) = re.findall(rb'data-document="(.+?)"', api.request("GET", "/docs").body)
    assert api.request("GET", path.decode()).json["openapi"].startswith("3.1.")


def test_openapi_document_is_compressed_and_revalidated(api: Api) -> None:
    plain = api.request("GET", "/openapi.json")
    zipped = api.request("GET", "/openapi.json", headers={"Accept-Encoding": "gzip"})
    assert (zipped.headers["Content-Encoding"], len(zipped.body) < len(plain.body) / 4) == ("gzip", True)
    assert gzip.decompress(zipped.body) == plain.body
    for answer in (plain, zipped):
        headers = {"Accept-Encoding": answer.headers["Content-Encoding"] or "identity"}
        headers["If-None-Match"] = answer.headers["ETag"]
        again = api.request("GET", "/openapi.json", headers=headers)
        assert (again.status, again.body) == (304, b"")


def test_answers_have_the_documented_fields(api: Api) -> None:
    schemas = api.request("GET", "/openapi.json").json["components"]["schemas"]
    answer = api.chat("Hello #think=1#")
    conversation = api.read(answer["conversation_id"])
    for name, value in {
        "ChatAnswer": answer,
        "ConversationWithMessages": conversation,
        "Message": conversation["messages"]["data"][1],
        "ConversationList": api.list(),
        "Health": api.request("GET", "/health").json,
        "Problem": api.post("").json,
    }.items():
        assert set(schemas[name]["required"]) <= value.keys() <= schemas[name]["properties"].keys(), name


def preflight(api: Api, origin: str, path: str = "/api/chat") -> Any:
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    asked["Access-Control-Request-Headers"] = "content-type,idempotency-key"
    return api.request("OPTIONS", path, headers=asked).headers


def test_configured_origin_may_call(impatient: Api) -> None:
    headers = preflight(impatient, ORIGIN)
    assert headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "POST" in headers["Access-Control-Allow-Methods"]
    assert {"content-type", "idempotency-key"} <= set(
        headers["Access-Control-Allow-Headers"].replace(" ", "").split(",")
    )


@pytest.mark.parametrize("origin", [ORIGIN, "http://[::1]:3000"])
def test_every_listed_origin_may_call(impatient: Api, origin: str) -> None:
    assert preflight(impatient, origin)["Access-Control-Allow-Origin"] == origin
    response = impatient.post("Hello", headers={"Origin": origin})
    assert (response.status, response.headers["Access-Control-Allow-Origin"]) == (200, origin)


def test_configured_origin_may_read_the_headers_that_clients_need(impatient: Api) -> None:
    """Excludes the headers that Fetch lets every page read."""
    answers = [
        impatient.request("GET", "/api/conversations/export-all?format=csv", headers={"Origin": ORIGIN}),
        impatient.request("GET", "/openapi.json", headers={"Origin": ORIGIN}),
        impatient.request("POST", "/api/conversations", headers={"Origin": ORIGIN}),
        impatient.request("POST", "/api/exports", json={"format": "json"}, headers={"Origin": ORIGIN}),
    ]
    needed = ("Content-Disposition", "ETag", "Allow", "Location")
    for answer, name in zip(answers, needed, strict=True):
        assert answer.headers[name], name
        exposed = set(answer.headers["Access-Control-Expose-Headers"].split(", "))
        assert exposed >= {*needed, "Content-Range", "Accept-Ranges", "Repr-Digest", "Retry-After", "RateLimit"}
        assert exposed >= {"RateLimit-Policy", "WWW-Authenticate", "X-Request-Id"}


@pytest.mark.parametrize(("message", "fields"), [("Hello", {}), ("Hello", {"stream": True}), ("", {})])
def test_configured_origin_may_read(impatient: Api, message: str, fields: dict[str, Any]) -> None:
    headers = impatient.post(message, headers={"Origin": ORIGIN}, **fields).headers
    assert headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "X-Request-Id" in headers["Access-Control-Expose-Headers"]
    assert headers["Cache-Control"] == ("no-store, no-transform" if fields else "no-store")
    assert "Authorization" in headers["Vary"].split(", ")


def test_options_lists_the_methods_of_every_path(impatient: Api) -> None:
    """A browser accepts only a successful status of a preflight (Fetch Standard, CORS preflight)."""
    for path, methods in impatient.request("GET", "/openapi.json").json["paths"].items():
        answer = impatient.request("OPTIONS", re.sub(r"{.+?}", str(uuid4()), path), headers={"Origin": ORIGIN})
        assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (200, ORIGIN), path
        assert {method.upper() for method in methods} <= set(answer.headers["Allow"].split(", ")), path


@pytest.mark.parametrize(
    "origin", ["https://evil.example.com", "http://app.example.com", f"{ORIGIN}.evil.com", "null", "http://1:3000"]
)
def test_other_origin_may_not_call(impatient: Api, origin: str) -> None:
    assert preflight(impatient, origin)["Access-Control-Allow-Origin"] is None
    assert impatient.post("Hello", headers={"Origin": origin}).headers["Access-Control-Allow-Origin"] is None


def test_no_origin_may_call_by_default(api: Api) -> None:
    assert preflight(api, ORIGIN)["Access-Control-Allow-Origin"] is None
    assert api.post("Hello", headers={"Origin": ORIGIN}).headers["Access-Control-Allow-Origin"] is None

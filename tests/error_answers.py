"""Answers of real providers that report an error, each with the result it must have."""

from __future__ import annotations

import json

from tests.answer_parts import (
    BAD_GATEWAY,
    DONE,
    ENDING,
    FULL,
    INNER,
    JSON,
    NO_ERROR,
    NO_ROOM,
    PIECES,
    Answer,
    answer,
    chunk,
    failed,
    lines,
    says,
    status,
    stream,
    usage,
)

ERRORS: dict[str, Answer] = {
    # Errors in band.
    "error-message": failed(
        stream({"choices": None, "error_type": "BadRequestError", "error_code": 400, "error_message": NO_ROOM}),
        NO_ROOM,
    ),
    "error-field": failed(stream(b"error: " + json.dumps(FULL).encode() + b"\n\n", DONE), NO_ROOM),
    "error-event": failed(stream(b"event: error\n" + lines(FULL)), NO_ROOM),
    "error-event-of-words": failed(
        stream(b"event: error\ndata: The engine is gone\n\n"), "The engine is gone", "provider_broke", calls=3
    ),
    "error-line": failed(stream(json.dumps({"error": FULL}).encode() + b"\n\n"), NO_ROOM),
    "error-list": failed(stream([{"error": FULL}]), NO_ROOM),
    "errors-in-band": failed(stream({"success": False, "errors": [FULL]}), NO_ROOM),
    "error-in-choice": failed(
        stream({"choices": [{"error": FULL, "delta": {"content": ""}, "finish_reason": "error"}]}), NO_ROOM
    ),
    "error-at-top": failed(
        answer(json.dumps({"code": "InvalidParameter", "message": "No such size"}).encode(), JSON), "No such size"
    ),
    "error-in-base": failed(
        stream({"choices": None, "base_resp": {"status_code": 1004, "status_msg": "log in first"}}), "log in first"
    ),
    "error-of-words": failed(stream({"error": {"message": NO_ROOM}}), NO_ROOM),
    "detail-of-words": failed(answer(json.dumps({"detail": NO_ROOM}).encode(), JSON), NO_ROOM),
    "error-of-trouble": failed(
        stream({"error": "Internal server error, try again"}), "Internal server", "provider_broke", calls=3
    ),
    "error-after-text": Answer(
        stream(*says(PIECES[0]), {"error": FULL}),
        PIECES[0],
        "",
        "truncated",
        None,
        "provider_refused",
        NO_ROOM,
        None,
    ),
    "error-of-groq": Answer(
        stream(*says(PIECES[0]), chunk(reason="stop", x_groq={"id": "r", "error": "It is over capacity"})),
        PIECES[0],
        "",
        "truncated",
        None,
        "provider_busy",
        "over capacity",
        None,
    ),
    # Error objects that are none.
    "empty-error": Answer(
        stream(*(one | {"error": NO_ERROR} for one in (*says(*PIECES), chunk(reason="stop"), usage())), DONE)
    ),
    "false-error": Answer(stream(*(one | {"error": False} for one in says(*PIECES)), *ENDING)),
    "zero-error": Answer(
        stream(*(one | {"error": {"code": 0, "message": ""}, "error_code": 0} for one in says(*PIECES)), *ENDING)
    ),
    # Errors by status, and where their words are.
    "errors-list": failed(
        status("404 Not Found", {"success": False, "errors": [{"code": 7003, "message": "Its id may be wrong"}]}),
        "Its id may be wrong",
    ),
    "raw-metadata": failed(
        status(
            "400 Bad Request",
            {
                "error": {
                    "message": "Provider returned error",
                    "code": 400,
                    "metadata": {"raw": INNER, "provider_name": "Example"},
                }
            },
        ),
        "Provider returned error: This model takes 1 image, not 3.",
    ),
    "message-in-json": failed(
        status("400 Bad Request", {"error": {"message": INNER}}), "It said: This model takes 1 image, not 3."
    ),
    "errors-by-field": failed(
        status("422 Unprocessable Entity", {"errors": {"temperature": ["must be below 2"]}}), "must be below 2"
    ),
    "plain-words": failed(status("403 Forbidden", b"Your region is not served"), "Your region is not served"),
    "page": failed(
        status("502 Bad Gateway", BAD_GATEWAY, "text/html"), "It said: 502 Bad Gateway", "provider_broke", calls=3
    ),
    "refusal-behind-500": failed(
        status("500 Internal Server Error", {"error": {**FULL, "type": "invalid_request_error"}}), NO_ROOM
    ),
}

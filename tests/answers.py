"""Answers of real providers, rebuilt around one sentence, each with the reply it must give."""

from __future__ import annotations

import gzip
import json
import zlib

from tests.answer_parts import (
    DONE,
    ENDING,
    FULL,
    JSON,
    NOTHING,
    PARTS,
    PIECES,
    REFUSED,
    SENTENCE,
    STREAM,
    THOUGHT,
    TOOL,
    UNOPENED,
    USAGE,
    WHOLE,
    ZERO,
    Answer,
    answer,
    chunk,
    chunked,
    completion,
    empty,
    ends,
    failed,
    good,
    lines,
    says,
    stream,
    usage,
)
from tests.error_answers import ERRORS

ANSWERS: dict[str, Answer] = {
    # What a piece says, and how.
    "parts": Answer(stream(*(chunk({"content": part}) for part in PARTS), *ENDING), reasoning=THOUGHT),
    "parts-alone": Answer(
        stream(chunk({"content": {"type": "reasoning", "text": THOUGHT}}), *says(*PIECES), *ENDING), reasoning=THOUGHT
    ),
    "parts-object": Answer(
        answer(json.dumps(completion({"content": [*PARTS[0], *PARTS[1], *PARTS[2], *PARTS[3]]})).encode(), JSON),
        reasoning=THOUGHT,
    ),
    "whole-at-end": Answer(
        stream(
            chunk({"content": "", "reasoning_content": THOUGHT}, usage=ZERO),
            *(chunk({"content": piece}, usage=ZERO) for piece in PIECES),
            WHOLE,
            DONE,
        ),
        reasoning=THOUGHT,
    ),
    "whole-at-end-alone": Answer(stream(chunk({"role": "assistant"}), WHOLE, DONE), reasoning=THOUGHT),
    "whole-beside-delta": Answer(
        stream(*says(*PIECES), {**WHOLE, "choices": [{**WHOLE["choices"][0], "delta": {"content": ""}}]}, DONE),
        reasoning=THOUGHT,
    ),
    "whole-beside-each-delta": Answer(
        stream(
            chunk({"role": "assistant"}),
            *(
                {"choices": [{"delta": {"content": piece}, "message": {"content": "".join(PIECES[: at + 1])}}]}
                for at, piece in enumerate(PIECES)
            ),
            {"choices": [{"delta": {"content": ""}, "message": {"content": SENTENCE}}]},
            *ENDING,
        )
    ),
    "whole-behind-deltas": Answer(stream(*says(*PIECES), {"choices": [{"message": {"content": SENTENCE}}]}, *ENDING)),
    "whole-behind-reasoning": Answer(
        stream(
            chunk({"reasoning_content": THOUGHT}),
            {"choices": [{"message": {"content": SENTENCE, "reasoning_content": THOUGHT}}], "usage": USAGE},
            DONE,
        ),
        reasoning=THOUGHT,
    ),
    "messages-as-pieces": Answer(
        stream(*({"choices": [{"message": {"content": piece}}]} for piece in PIECES), *ENDING)
    ),
    "reasoning-details": Answer(
        stream(chunk({"reasoning_details": [{"type": "reasoning.text", "text": THOUGHT}]}), *says(*PIECES), *ENDING),
        reasoning=THOUGHT,
    ),
    "legacy-text": Answer(stream(*({"choices": [{"text": piece}]} for piece in PIECES), *ENDING)),
    # Signs of life, and types that are not their own.
    "empty-data": Answer(
        stream(b"data:\n\n", *says(PIECES[0]), b"data: \n\n", b"event: ping\ndata:\n\n", *says(*PIECES[1:]), *ENDING)
    ),
    "null-data": Answer(stream("null", *says(*PIECES), "ping", {}, *ENDING)),
    "odd-types": Answer(
        stream(
            {"choices": {}, "usage": []},
            {"choices": [None], "model": 7, "usage": {}},
            {"choices": [{"delta": [], "finish_reason": []}], "usage": None},
            {"choices": [{"delta": PIECES[0], "finish_reason": {}}]},
            {"choices": {"delta": {"content": PIECES[1], "reasoning": []}, "finish_reason": "null"}},
            *says(PIECES[2]),
            chunk(reason="stop"),
            usage({"prompt_tokens": 9.0, "completion_tokens": "12"}),
            DONE,
        )
    ),
    "usage-in-choice": Answer(
        stream(*says(*PIECES), {"choices": [{"delta": {}, "finish_reason": "stop", "usage": USAGE}]}, DONE)
    ),
    "usage-of-groq": Answer(stream(*says(*PIECES), chunk(reason="stop", x_groq={"id": "r", "usage": USAGE}), DONE)),
    "not-a-number": Answer(
        stream(b'data: {"choices":[{"delta":{"content":"Fog is a "},"logprob":NaN}]}\n\n', *says(*PIECES[1:]), *ENDING)
    ),
    # What the body is, whatever it is called.
    "stream-as-json": Answer(answer(good(), JSON)),
    "stream-as-text": Answer(answer(b": hello\n\n" + good(), "text/plain")),
    "stream-as-page": Answer(answer(b"\xef\xbb\xbf" + good(), "text/html")),
    "object-as-stream": Answer(answer(json.dumps(WHOLE).encode()), reasoning=THOUGHT),
    "pretty-object-as-stream": Answer(answer(b"\r\n" + json.dumps(WHOLE, indent=2).encode()), reasoning=THOUGHT),
    "list-as-stream": Answer(answer(json.dumps([WHOLE]).encode()), reasoning=THOUGHT),
    "lines-of-json": Answer(
        answer(b"\n".join(json.dumps(one).encode() for one in (*says(*PIECES), chunk(reason="stop"), usage())), JSON)
    ),
    "no-blank-lines": Answer(answer(good().replace(b"\n\n", b"\n"))),
    "data-twice": Answer(answer(good().replace(b"data: ", b"data: data: "))),
    "data-behind-blanks": Answer(answer(b": hi\n\n" + good().replace(b"data: ", b" data: "))),
    "bare-json-lines": Answer(answer(b": hi\n\n" + good().replace(b"data: {", b"{"))),
    "created": Answer(answer(good(), STREAM, "201 Created")),
    "accepted": Answer(answer(json.dumps(WHOLE).encode(), JSON, "202 Accepted"), reasoning=THOUGHT),
    **ERRORS,
    # Replies that have no text.
    "only-done": empty(stream(DONE), NOTHING, usage=None),
    "only-comments": empty(stream(b": hi\n\n", b"event: done\ndata: [done]\n\n"), NOTHING, usage=None),
    "only-role": empty(stream(chunk({"role": "assistant", "content": ""}), *ENDING), NOTHING),
    "only-blanks": empty(stream(chunk({"content": "\n\n"}), *ENDING), NOTHING, text="\n\n", status="truncated"),
    "only-reasoning": empty(
        stream(chunk({"content": " ", "reasoning": THOUGHT}), *ENDING),
        "after the reasoning",
        text=" ",
        reasoning=THOUGHT,
        status="truncated",
    ),
    "empty-object": empty(answer(b"{}", JSON), NOTHING, usage=None),
    "tool-call": empty(
        stream(chunk({"tool_calls": [TOOL]}), chunk(reason="tool_calls"), usage(), DONE), "memory_search", "tool_calls"
    ),
    "function-call": empty(
        stream(chunk({"function_call": {"name": "lookup"}}), chunk(reason="function_call"), usage(), DONE),
        "lookup",
        "tool_calls",
    ),
    "tool-call-then-stop": empty(stream(chunk({"tool_calls": [TOOL]}), *ENDING), "memory_search", "tool_calls"),
    "text-then-tool-call-then-stop": Answer(
        stream(*says(PIECES[0]), chunk({"tool_calls": [TOOL]}), *ENDING),
        PIECES[0],
        status="truncated",
        reason="tool_calls",
    ),
    "object-with-tool-call": Answer(
        answer(json.dumps(completion({"content": PIECES[0], "tool_calls": [TOOL]})).encode(), JSON),
        PIECES[0],
        status="truncated",
        reason="tool_calls",
    ),
    "no-tool-call": Answer(
        stream(
            *(chunk({"content": piece, "tool_calls": [], "function_call": {"name": ""}}) for piece in PIECES), *ENDING
        )
    ),
    "text-then-tool-call": Answer(
        stream(*says(PIECES[0]), chunk({"tool_calls": [TOOL]}), chunk(reason="tool_use"), usage(), DONE),
        PIECES[0],
        status="truncated",
        reason="tool_calls",
    ),
    "all-reasoning": empty(
        stream(chunk({"content": None, "reasoning": THOUGHT}), chunk(reason="length"), usage(), DONE),
        "token limit",
        "length",
        reasoning=THOUGHT,
        status="truncated",
    ),
    "all-thinking": empty(
        ends("MAX_TOKENS", "<think>", THOUGHT), "token limit", "length", reasoning=THOUGHT, status="truncated"
    ),
    "limit-at-once": empty(ends("max_tokens"), "token limit", "length"),
    "filtered-at-once": empty(ends("content_filter"), "content filter", "content_filter"),
    # How a reply ends.
    "done-alone": Answer(stream(*says(*PIECES), chunk(usage=USAGE), DONE)),
    "usage-alone": Answer(chunked(*says(*PIECES), usage(), end=b"0\r\n\r\n")),
    "object-without-reason": Answer(answer(json.dumps(completion({"content": SENTENCE}, None)).encode(), JSON)),
    "text-alone": Answer(
        chunked(*says(*PIECES), end=b"0\r\n\r\n"),
        status="truncated",
        reason=None,
        error="provider_broke",
        told="without a finish reason",
        usage=None,
    ),
    "cut-after-reason": Answer(chunked(*says(*PIECES), chunk(reason="stop"), usage())),
    "cut-before-usage": Answer(chunked(*says(*PIECES), chunk(reason="end_turn")), usage=None),
    "error-after-reason": Answer(
        stream(*says(*PIECES), chunk(reason="stop"), usage(), {"error": FULL}, b"data: {oh\n\n")
    ),
    "rubbish-after-reason": Answer(stream(*says(*PIECES), chunk(reason="stop", usage=USAGE), b"data: {oh\n\n")),
    "cut-amid-text": Answer(
        chunked(*says(PIECES[0])),
        PIECES[0],
        status="truncated",
        reason=None,
        error="provider_broke",
        told="connection",
        usage=None,
    ),
    "network-error": Answer(
        ends("network_error", PIECES[0]), PIECES[0], "", "truncated", "network_error", "provider_broke", "network_error"
    ),
    "no-resource": Answer(
        ends("insufficient_system_resource", PIECES[0]),
        PIECES[0],
        "",
        "truncated",
        "insufficient_system_resource",
        "provider_broke",
        "insufficient_system_resource",
    ),
    "failed-and-cut": Answer(
        chunked(*says(PIECES[0]), chunk(reason="upstream-timeout", usage=USAGE)),
        PIECES[0],
        "",
        "truncated",
        "upstream-timeout",
        "provider_broke",
        "upstream-timeout",
    ),
    "network-error-empty": failed(
        ends("network_error"), "network_error", "provider_broke", reason="network_error", usage=(9, 12), calls=3
    ),
    "filtered": Answer(ends("content_filter", PIECES[0]), PIECES[0], status="truncated", reason="content_filter"),
    "unsafe": Answer(ends("SAFETY", PIECES[0]), PIECES[0], status="truncated", reason="content_filter"),
    "limited": Answer(ends("maxTokens", PIECES[0]), PIECES[0], status="truncated", reason="length"),
    "reason-with-details": Answer(
        ends("content_filter: PROHIBITED_CONTENT", PIECES[0]), PIECES[0], status="truncated", reason="content_filter"
    ),
    "reason-as-object": Answer(
        ends({"type": "length", "length": 9}, PIECES[0]), PIECES[0], status="truncated", reason="length"
    ),
    "synonym-eos": Answer(ends("eos", *PIECES)),
    "synonym-end-turn": Answer(ends("END_TURN", *PIECES)),
    "unknown-word": Answer(ends("tired", *PIECES), reason="tired"),
    "refusal": Answer(
        stream(
            chunk({"content": None, "refusal": ""}),
            *(chunk({"refusal": part}) for part in ("I will not ", "help with that.")),
            *ENDING,
        ),
        REFUSED,
        reason="refusal",
    ),
    "refusal-object": Answer(
        answer(json.dumps(completion({"content": None, "refusal": REFUSED})).encode(), JSON), REFUSED, reason="refusal"
    ),
    "refusal-part": Answer(
        stream(chunk({"content": [{"type": "refusal", "refusal": REFUSED}]}), *ENDING), REFUSED, reason="refusal"
    ),
    # Reasoning in the text.
    "think": Answer(ends("stop", "<think>", THOUGHT, "</think>", f"\n\n{SENTENCE}"), reasoning=THOUGHT),
    "think-in-pieces": Answer(ends("stop", *f"\n<thinking>\n{THOUGHT}\n</thinking>\n\n{SENTENCE}"), reasoning=THOUGHT),
    "think-in-brackets": Answer(ends("stop", "[TH", f"INK]{THOUGHT}[", f"/THINK]{SENTENCE}"), reasoning=THOUGHT),
    "think-object": Answer(
        answer(json.dumps(completion({"content": f"<think>\n{THOUGHT}\n</think>\n{SENTENCE}"})).encode(), JSON),
        reasoning=THOUGHT,
    ),
    "think-nothing": Answer(ends("stop", "<think>\n\n</think>\n\n", SENTENCE)),
    # The prompt has the opening tag: known if all comes at once, else shown as the text that it has come as.
    "unopened": Answer(ends("stop", f"{THOUGHT}", "\n</think>", f"\n\n{SENTENCE}"), UNOPENED),
    "unopened-nothing": Answer(ends("stop", "\n", "</think>", f"\n\n{SENTENCE}")),
    "unopened-at-once": Answer(ends("stop", UNOPENED), reasoning=THOUGHT),
    "unopened-object": Answer(answer(json.dumps(completion({"content": UNOPENED})).encode(), JSON), reasoning=THOUGHT),
    "unopened-line": Answer(
        answer(json.dumps(completion({"content": f"{THOUGHT}</think>\n{SENTENCE}"})).encode(), JSON), reasoning=THOUGHT
    ),
    "closing-tag-in-prose": Answer(ends("stop", "The tag </think> ends it."), "The tag </think> ends it."),
    "think-later": Answer(
        ends("stop", "The tag ", "<think> ", "is not a tag of HTML."), "The tag <think> is not a tag of HTML."
    ),
    "almost-think": Answer(ends("stop", "<th", "read> is no tag."), "<thread> is no tag."),
    "cut-amid-tag": Answer(
        chunked(*says(" <thin")),
        " <thin",
        status="truncated",
        reason=None,
        error="provider_broke",
        told="connection",
        usage=None,
    ),
    # Words beside the reply.
    "words": Answer(answer(good("upstream busy, reconnecting"))),
    "bare-words": Answer(answer(good(b"upstream busy, reconnecting\n\n"))),
    "queued": Answer(answer(lines({"status": "queued", "message": "You are third"}) + good())),
    "only-words": failed(
        stream("upstream busy, reconnecting", DONE), "upstream busy, reconnecting", "provider_busy", calls=3
    ),
    "words-as-reply": failed(
        answer(b"upstream connect error", "text/plain"), "upstream connect error", "provider_broke", calls=3
    ),
    "page-as-reply": failed(
        answer(b"<!doctype html><title>Log in to the Wi-Fi</title>", "text/html"),
        "Log in to the Wi-Fi",
        "provider_broke",
    ),
    # How it is sent.
    "both-framings": Answer(
        chunked(good(), end=b"0\r\n\r\n").replace(b"Transfer-", b"Content-Length: 5\r\nTransfer-", 1)
    ),
    "line-feeds": Answer(b"HTTP/1.1 200 OK\nContent-Type: text/event-stream\nConnection: close\n\n" + good()),
    "gzip": Answer(answer(gzip.compress(good()), STREAM, "200 OK", "Content-Encoding: gzip")),
    "gzip-object": Answer(
        answer(gzip.compress(json.dumps(WHOLE).encode()), JSON, "200 OK", "Content-Encoding: gzip"), reasoning=THOUGHT
    ),
    "gzip-unsaid": Answer(answer(gzip.compress(good()))),
    "gzip-said-alone": Answer(answer(good(), STREAM, "200 OK", "Content-Encoding: gzip")),
    "deflate": Answer(answer(zlib.compress(good()), STREAM, "200 OK", "Content-Encoding: deflate")),
    "brotli": failed(
        answer(b"\x8b\x02\x80data\x03", STREAM, "200 OK", "Content-Encoding: br"), "compressed", "provider_broke"
    ),
    "gzip-damaged": failed(
        answer(b"\x1f\x8b\x08\x00rubbish-rubbish", STREAM, "200 OK", "Content-Encoding: gzip"),
        "compressed",
        "provider_broke",
    ),
    "not-http": failed(b"SSH-2.0-OpenSSH_9.9\r\n", "", "provider_broke", calls=3),
}

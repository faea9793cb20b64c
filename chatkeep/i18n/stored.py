"""Find the message of an error that is stored in English, so that it can be translated."""

from __future__ import annotations

import re
from functools import partial

from chatkeep.i18n import N_, Text

# Messages with placeholders that are stored as the error of a reply. A test finds missing ones.
_STORED = (
    N_("{error}. It said: {words}"),
    N_("The provider was given up: {reason}."),
    N_("The model called the tool {name} instead of answering. This server offers no tools to models."),
    N_("The provider sent a JSON answer of over {bytes} bytes."),
    N_("The provider sent a compressed reply of over {bytes} bytes."),
    N_("The provider sent over {bytes} bytes without the end of an event."),
    N_("The provider's answer is not valid HTTP: {reason}."),
    N_("The provider's certificate is not trusted: {reason}."),
    N_("{error}."),
    N_("The provider ended the reply with the finish reason {finish_reason}"),
    N_("The provider did not accept the request ({status})"),
    N_("The provider's rate limit is reached ({status})"),
    N_("The provider is overloaded ({status})"),
    N_("The provider timed out ({status})"),
    N_("The provider redirects ({status}), which is not followed: check OPENAI_BASE_URL"),
    N_("The provider refused the request ({status})"),
    N_("The provider failed ({status})"),
)
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
# Placeholders that hold other messages; all others hold the words of a provider.
_OURS = {"error", "reason"}


def recognized(english: str, messages: tuple[str, ...] = _STORED, depth: int = 2) -> Text:
    """Return the text that was made from one of the messages. Unknown text stays as it is in every language.

    Imported text may be anything, so the time is linear in its length. ``depth`` limits nested messages.
    """
    for message in messages if depth else ():
        pieces = _PLACEHOLDER.split(message)
        values = _values(pieces[::2], english)
        if values:
            named = zip(pieces[1::2], values, strict=True)
            nested = partial(recognized, messages=messages, depth=depth - 1)
            return Text(message, **{name: nested(value) if name in _OURS else value for name, value in named})
    return Text(english)


def _values(pieces: list[str], text: str) -> list[str]:
    """Return the parts of the text between the pieces, or nothing if the text does not consist of them.

    Each value has one character at least, and ends where the next piece first occurs.
    """
    first, *others, last = pieces
    end = len(text) - len(last)
    if not text.startswith(first) or not text.endswith(last):
        return []
    found, at = [], len(first)
    for piece in others:
        next_at = text.find(piece, at + 1, end)
        if next_at < 0:
            return []
        found.append(text[at:next_at])
        at = next_at + len(piece)
    return [*found, text[at:end]] if at < end else []

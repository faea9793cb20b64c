"""Map providers' finish reasons to the few that we store. Pure: no I/O except logging."""

from __future__ import annotations

import logging
import re
from functools import lru_cache

from chatkeep.domain.conversation import CONTENT_FILTER, CUT, LENGTH, STOP, TOOL_CALLS

log = logging.getLogger(__name__)
# The column's length.
MOST_CHARACTERS = 64
# Finish reasons for a full context window.
_CONTEXT_EXCEEDED = "modelcontextwindowexceeded contextwindowexceeded modelcontextlengthexceeded contextlengthexceeded"
# Words in lower case without separators, so that END_TURN, end-turn and endTurn are one.
_SYNONYMS = {
    STOP: (
        "stop stopped stopsequence stoptoken stopstr stopstring stopstringfound eos eosfound eostoken eostokenid"
        " endturn endofturn endoftext endofsequence end eot complete completed completion finish finished done normal"
        " success natural turncomplete"
    ),
    LENGTH: (
        "length lengthlimit lengthexceeded maxlength maxlengthreached maxpredictedtokensreached maxtokens"
        " maxtokensreached maxoutputtokens maxcompletiontokens maxnewtokens modellength tokenlimit tokenlimitreached"
        " tokenlimitexceeded limit outputlimit contextlength contextlengthreached maxcontextlength truncated"
        f" {_CONTEXT_EXCEEDED}"
    ),
    CONTENT_FILTER: (
        "contentfilter contentfiltered contentfiltering safetyfilter unsafe jailbreak filter filtered safety recitation"
        " blocklist blocked prohibitedcontent spii imagesafety guardrail guardrails guardrailintervened sensitive"
        " sensitivecontent moderation moderated flagged errortoxic refusal policyviolation contentpolicyviolation"
        " contentblocked"
    ),
    TOOL_CALLS: "toolcalls toolcall tooluse tooluses functioncall functioncalls",
}
_KNOWN = {word: reason for reason, words in _SYNONYMS.items() for word in words.split()}
_FAILURE = re.compile(
    r"error|fail|insufficient|overload|unavailable|timeout|abort|cancel|exception|malformed|disconnect|interrupt"
    r"|exhaust|ratelimit|throttl|lost|crash|incomplete|deadline|preempt|killed|connection|internal|unload|userstop"
)
_NONE = {"", "null", "none"}
_PLAIN_WORD = re.compile(r"[A-Za-z][A-Za-z_. -]{0,63}")


def word_of(value: object) -> str | None:
    """Return a choice's finish reason in the provider's words, or None."""
    if isinstance(value, dict):
        value = value.get("type")
    word = value.strip() if isinstance(value, str) else ""
    # A lone surrogate can't be stored.
    return None if word.lower() in _NONE else word[:MOST_CHARACTERS].encode(errors="replace").decode()


def reason_of(word: str) -> str:
    """Return our finish reason for a provider's word. An unknown word is logged and returned as it is."""
    known = _known(word)
    if known is None and not is_failure(word):
        _log_unknown(word if _PLAIN_WORD.fullmatch(word) else "(not shown)")
    return known or word


def is_failure(word: str) -> bool:
    """Return whether a provider's word reports a failure, such as ``network_error``."""
    return _known(word) is None and _FAILURE.search(_plain(word)) is not None


def says_cut(word: str) -> bool:
    """Return whether a provider's word says that the reply is incomplete."""
    return _known(word) in CUT or is_failure(word)


def is_context_exceeded(word: str) -> bool:
    """Return whether a provider's word says that the model's context window is full."""
    return _plain(word) in _CONTEXT_EXCEEDED.split()


def _known(word: str) -> str | None:
    """Return our finish reason for a word, without details after a colon, or None."""
    return _KNOWN.get(_plain(word)) or _KNOWN.get(_plain(word.partition(":")[0]))


def _plain(word: str) -> str:
    return "".join(filter(str.isalnum, word.lower())).removeprefix("finishreason")


@lru_cache(1000)
def _log_unknown(word: str) -> None:
    """Log a word the first time it occurs."""
    log.warning("the provider ended a reply with an unknown finish reason: %s", word)

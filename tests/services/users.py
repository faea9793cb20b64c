"""The users of the throwaway database servers."""

from __future__ import annotations

USER = "chatkeep"
# Has all rights in the databases and none on the server, so read_only applies to it.
ORDINARY_USER = "ordinary"

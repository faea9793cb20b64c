"""The users of the throwaway database servers."""

from __future__ import annotations

USER = "chatkeep"
# May do everything in the databases, and nothing to the server: read_only holds for it.
ORDINARY_USER = "ordinary"

"""Usage, the overview, statistics and the audit log."""

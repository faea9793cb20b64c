"""Quotas, enforced, and usage, added up."""

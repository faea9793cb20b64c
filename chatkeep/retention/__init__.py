"""Expiry and erasure."""

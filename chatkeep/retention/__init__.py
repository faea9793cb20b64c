"""Expire and erase."""

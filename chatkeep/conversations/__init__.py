"""List, read, change, delete and share conversations."""

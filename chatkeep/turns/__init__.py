"""The heart: a turn from its request to its stored reply."""

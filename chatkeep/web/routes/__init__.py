"""The routes: each parses, calls and renders."""

"""HTTP: routes parse, call a use case, and render; nothing here decides."""

"""Who calls: API keys, end-user tokens, signing in."""

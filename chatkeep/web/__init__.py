"""HTTP: routes parse requests, call services and render responses."""

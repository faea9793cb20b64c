"""The application factory, and the servers that it runs on."""

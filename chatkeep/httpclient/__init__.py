"""An HTTP client whose calls end from any thread, and whose streams are read by one epoll."""

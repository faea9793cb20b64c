"""Plain values: conversations, quotas, usage, audit events. Pure: nothing here waits, reads or writes."""

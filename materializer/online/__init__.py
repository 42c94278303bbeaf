"""The online store: rows in Redis, written and read."""

"""Jobs: accepted once, kept in PostgreSQL, announced through Redis, run under a fenced lease."""

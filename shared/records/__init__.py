"""Records: what a service answered, and what people said of it, in SQLite or PostgreSQL."""

"""The bank over HTTP, beside what web frameworks do for the same request: nothing, and one row in SQLite."""

__all__: list[str] = []

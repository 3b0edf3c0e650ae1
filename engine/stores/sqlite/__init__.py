"""A log, and its snapshots, in SQLite files."""

__all__: list[str] = []

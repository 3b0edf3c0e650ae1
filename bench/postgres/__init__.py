"""Figures on PostgreSQL: a server of their own, and what runs on it."""

__all__: list[str] = []

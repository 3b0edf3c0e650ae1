"""The write side: one writer, from a caller's command to its commit."""

__all__: list[str] = []

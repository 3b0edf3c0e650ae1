"""Where commits and snapshots are kept: the ports, memory, and reading a log whatever keeps it."""

__all__: list[str] = []

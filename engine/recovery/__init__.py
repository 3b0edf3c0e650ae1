"""From disk to states: opening, rebuilding, and the snapshots that make it quick."""

__all__: list[str] = []

"""How one thread is shared: clocks, slices, threads beside the loop, the collector."""

__all__: list[str] = []

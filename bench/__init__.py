"""The benchmark harness: workloads, limits, and what they say about the machine."""

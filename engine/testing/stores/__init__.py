"""The contracts of stores as suites for pytest: the tests of another store subclass them, as the tests of ours do."""

from millstream.engine.testing.stores.log_conformance import LogConformance
from millstream.engine.testing.stores.snapshot_conformance import SnapshotConformance

__all__ = ["LogConformance", "SnapshotConformance"]

"""What the engine and the process that takes its snapshots say to each other: an order in, an end out, a line each.

Here: the two messages, and what is reported of snapshots meanwhile. Not here: who sends them (`process`, `child`).
"""

from __future__ import annotations

import json
from typing import Any, Literal, TypeAlias

import msgspec

from millstream.engine.errors.said import said_by
from millstream.engine.observers import Observer
from millstream.engine.recovery.errors import SnapshotProcessFailed
from millstream.engine.recovery.naming import NamedApp
from millstream.engine.recovery.taking import Taken

__all__ = ["END", "Ended", "Hook", "Order", "Recorder", "Told"]

#: What the last line that the process writes begins with.
END = b"\nmillstream-snapshots:"
#: A reason may quote what is in the state.
_CHARACTERS_MAX = 500

Hook: TypeAlias = Literal["snapshot_failed", "snapshot_set_aside", "snapshots_damaged"]


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """Of what to take snapshots."""

    #: Where modules are looked for.
    path: tuple[str, ...]
    app: NamedApp
    log: str
    log_id: str | None
    #: As they are, also what is no number of JSON: no commit is slow by ``slow_commit_ms=math.inf``.
    limits: dict[str, Any]
    without: tuple[str, ...]

    @property
    def line(self) -> bytes:
        """As it is sent: ASCII, whatever is in a path, and floats as Python writes them."""
        return json.dumps(msgspec.to_builtins(self)).encode() + b"\n"

    @classmethod
    def of(cls, line: bytes) -> Order:
        """What a line says."""
        return msgspec.convert(json.loads(line), cls)


class Told(msgspec.Struct, frozen=True):
    """What an observer was called with: by which hook, of which part or file, and why."""

    hook: Hook
    what: str
    why: str


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """What has come of an order."""

    taken: Taken | None = None
    problem: str | None = None
    told: tuple[Told, ...] = ()

    def tell(self, observer: Observer, log: str) -> None:
        """Call an observer of this process with what was reported there."""
        for each in self.told:
            error = SnapshotProcessFailed(log, 0, each.why)
            if each.hook == "snapshot_set_aside":
                observer.snapshot_set_aside(part=each.what, reason=each.why)
            elif each.hook == "snapshot_failed":
                observer.snapshot_failed(part=each.what, error=error)
            else:
                observer.snapshots_damaged(file=each.what, error=error)


class Recorder(Observer):
    """Keeps what it is called with, for another process."""

    def __init__(self) -> None:
        self.told: list[Told] = []

    def snapshot_failed(self, *, part: str, error: BaseException) -> None:
        """Keep it."""
        self._keep("snapshot_failed", part, said_by(error))

    def snapshot_set_aside(self, *, part: str, reason: str) -> None:
        """Keep it."""
        self._keep("snapshot_set_aside", part, reason)

    def snapshots_damaged(self, *, file: str, error: BaseException) -> None:
        """Keep it."""
        self._keep("snapshots_damaged", file, said_by(error))

    def _keep(self, hook: Hook, what: str, why: str) -> None:
        self.told.append(Told(hook, what, why[:_CHARACTERS_MAX]))

"""A log in memory: for tests, for trying things out, and for state that may vanish with the process.

Not a mock: it keeps every promise of the port except outliving the process. It does outlive the engine: opening the
same `MemoryLog` again finds what was appended.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Sequence

import anyio
import msgspec

from millstream.engine.commits.chain import head_of
from millstream.engine.commits.columns import needs_of
from millstream.engine.commits.commit import Commit, Head
from millstream.engine.errors import CommitFailed, Fenced, LogLocked, LogRefused
from millstream.engine.stores.following import AppendSignal, followed
from millstream.engine.stores.leadership import Leadership
from millstream.engine.stores.log_id import new_log_id
from millstream.engine.stores.memory_snapshots import MemorySnapshots
from millstream.engine.stores.owner import require_owner
from millstream.engine.stores.settling import settled_by_probe
from millstream.engine.stores.sizes import require_size
from millstream.engine.stores.snapshot_port import SnapshotStore

__all__ = ["MemoryLog", "MemoryStore"]

#: How often a log that another writer has is looked at.
_TURN_SECONDS = 0.1


class MemoryStore(msgspec.Struct):
    """What a `MemoryLog` keeps its commits in. Two logs on one store are two handles to the same log."""

    commits: list[Commit] = []
    application: str | None = None
    id: str = msgspec.field(default_factory=new_log_id)
    locked: bool = False
    #: Where the writer can be reached.
    leader: str | None = None
    snapshots: MemorySnapshots = msgspec.field(default_factory=MemorySnapshots)
    #: How many bytes a commit's body may have; None for as many as one likes.
    body_bytes_max: int | None = None
    #: Those of the handles that are followed.
    appended: list[AppendSignal] = []

    def add(self, commit: Commit) -> None:
        """Keep the next commit, and tell its followers."""
        self.commits.append(commit)
        for appended in self.appended:
            appended.tell()


class MemoryLog:
    """The `Log` port on a list.

    Args:
        store: where the commits are kept; a new one if none is given.
    """

    def __init__(self, store: MemoryStore | None = None) -> None:
        self.store = MemoryStore() if store is None else store
        self._holds_lock = False
        self._appended: AppendSignal | None = None

    @property
    def name(self) -> str:
        return "memory:"

    @property
    def id(self) -> str | None:
        return self.store.id

    @property
    def needs(self) -> Collection[str]:
        """The features that its commits name."""
        return {feature for commit in self.store.commits for feature in needs_of(commit.body)}

    @property
    def body_bytes_max(self) -> int | None:
        """How many bytes a commit's body may have, as its store says."""
        return self.store.body_bytes_max

    @property
    def snapshots(self) -> SnapshotStore:
        return self.store.snapshots

    async def open(self, application: str, address: str | None = None) -> Leadership:
        if self.store.locked:
            raise LogLocked(self.name)
        if self.store.application is not None:
            require_owner(self.name, self.store.application, application)
        self.store.application = application
        self.store.locked = self._holds_lock = True
        self.store.leader = address
        return Leadership(address)

    async def wait_for_turn(self) -> None:
        while True:
            if not self.store.locked:
                return
            await anyio.sleep(_TURN_SECONDS)

    async def leader(self) -> str | None:
        return self.store.leader

    async def attach(self) -> str:
        if self.store.application is None:
            raise LogRefused(self.name, "there is no log in it yet", "let an engine open it first")
        return self.store.application

    async def append(self, commit: Commit) -> None:
        if not self._holds_lock:
            raise CommitFailed(commit.number, "this log is not open for writing")
        head = len(self.store.commits)
        if commit.number != head + 1:
            raise Fenced(self.name, commit.number, head)
        require_size(commit, self.body_bytes_max)
        self.store.add(commit)

    async def read(self, after: int, bytes_max: int) -> Sequence[Commit]:
        page: list[Commit] = []
        room = bytes_max
        for index in range(after, len(self.store.commits)):
            commit = self.store.commits[index]
            if page and len(commit.body) > room:
                break
            room -= len(commit.body)
            page.append(commit)
        return page

    def follow(self, after: int, bytes_max: int) -> AsyncGenerator[Sequence[Commit], None]:
        return followed(self.read, self.appended, after, bytes_max)

    @property
    def appended(self) -> AppendSignal:
        """Moves with what is appended to the store, until this handle is closed."""
        if self._appended is None:
            self._appended = AppendSignal()
            self.store.appended.append(self._appended)
        return self._appended

    def look_now(self) -> None:
        """Nothing to do: every append is signalled."""

    async def head(self) -> Head:
        if not self.store.commits:
            return Head()
        return head_of(self.name, self.store.commits[-1])

    async def probe(self) -> None:
        """Nothing to find out: a list takes whatever it is given, and what it refused is nowhere."""
        if not self._holds_lock:
            raise RuntimeError("this log is not open for writing: Engine opens it, or call open()")

    async def settle(self, commit: Commit) -> bool:
        return await settled_by_probe(self, commit)

    async def close(self) -> None:
        if self._holds_lock:
            self.store.locked = self._holds_lock = False
            self.store.leader = None
        appended, self._appended = self._appended, None
        if appended is not None:
            self.store.appended.remove(appended)
            appended.end()

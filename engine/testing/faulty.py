"""A log that fails as stores do, where its seed says so.

Here: one store in memory, what can go wrong with it, and how often. Not here: what the engine makes of that.

What is appended goes its own way, as it would in a store's thread: a caller that is cancelled does not stop it.

    append       written when a latency is over, answered when another is; or refused, lost, or answered with an error
                 although it was written
    head, read,  answered after a latency; or an error
    probe, open
    crash        nothing that comes later reaches the store. What was under way is written or not. After an append that
                 failed, unless the store took something since, the commit may come back though it was not there, or be
                 gone though it was: that is what becomes of pages that were written and not flushed
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from random import Random
from typing import NamedTuple

import anyio
import msgspec

from millstream.engine.commits.commit import Commit, Head
from millstream.engine.errors import CommitFailed, DefinitionError, Fenced
from millstream.engine.stores.following import followed
from millstream.engine.stores.leadership import Leadership
from millstream.engine.stores.memory import MemoryLog, MemoryStore
from millstream.engine.stores.settling import settled_by_probe
from millstream.engine.stores.sizes import require_size
from millstream.engine.stores.snapshot_port import SnapshotStore
from millstream.engine.testing.errors import StoreFault
from millstream.engine.testing.faulty_snapshots import FaultySnapshots

__all__ = ["Faults", "FaultyLog"]

_FATES = ("append_refused", "append_lost", "append_written", "append_ghost")


class Faults(msgspec.Struct, frozen=True, kw_only=True):
    """How often what goes wrong, from 0 for never to 1 for always; and how long things take.

    The four fates of an append exclude each other, so together they are at most 1.

    Raises:
        DefinitionError: a share is not between 0 and 1, a time is negative, or the four fates are more than 1 together.
    """

    #: The store says no (`CommitFailed`): nothing is written.
    append_refused: float = 0.0
    #: An error before anything is written.
    append_lost: float = 0.0
    #: An error, though the commit is there; a crash may undo it, unless the store took something or was opened since.
    append_written: float = 0.0
    #: An error, and the commit is not there; a crash may bring it back, unless the store took something or was opened.
    append_ghost: float = 0.0
    #: Errors where the store is asked, probed or opened, and in any operation on snapshots.
    head_fails: float = 0.0
    read_fails: float = 0.0
    probe_fails: float = 0.0
    open_fails: float = 0.0
    #: Openings that leave unflushed what a crash before them had left unflushed: the next crash may still undo it.
    open_unflushed: float = 0.0
    snapshot_fails: float = 0.0
    #: Operations that take up to ``held_seconds_max`` instead of ``latency_seconds_max``.
    held: float = 0.0
    latency_seconds_max: float = 0.001
    held_seconds_max: float = 5.0

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value, is_time = getattr(self, name), name.endswith("_seconds_max")
            if value < 0 or (value > 1 and not is_time):
                raise DefinitionError(f"{name} is {value!r}: {'a time' if is_time else 'a share of 1'}", "Faults")
        if sum(getattr(self, name) for name in _FATES) > 1:
            raise DefinitionError(f"{', '.join(_FATES)} are more than 1 together", "Faults")


class _Writing(NamedTuple):
    """A commit that the store was given: what will become of it, when that is known, and the timer that runs."""

    commit: Commit
    fate: str
    done: asyncio.Future[None]
    timers: list[asyncio.TimerHandle]


class FaultyLog:
    """The `Log` port on a real store in memory, slow and failing by a seed.

    Without ``faults`` it is only slow. Latencies are the loop's: in a simulation no time passes.

    Args:
        seed: a number, or a random generator of the log's own.
        faults: what goes wrong, to begin with; `faults` may be set at any time.
        store: where the commits are kept; a new one if none is given.
        note: is given a line of text for each fault.
    """

    def __init__(
        self,
        seed: int | Random = 0,
        faults: Faults | None = None,
        *,
        store: MemoryStore | None = None,
        note: Callable[[str], None] | None = None,
    ) -> None:
        self.faults = faults or Faults()
        #: How often which fault happened.
        self.counts: Counter[str] = Counter()
        self._inner = MemoryLog(store)
        self._random = seed if isinstance(seed, Random) else Random(seed)
        self._note = note
        self._writing: _Writing | None = None
        #: What a crash may bring back, and whether it may undo the last commit; until the store takes something.
        self._ghost: Commit | None = None
        self._undone = False
        self._open = self._crashed = False
        self._snapshots = FaultySnapshots(self._inner.snapshots, self._work_on_snapshots)

    @property
    def name(self) -> str:
        return "faulty:"

    @property
    def id(self) -> str | None:
        return self._inner.id

    @property
    def needs(self) -> Collection[str]:
        """The features that its commits name."""
        return self._inner.needs

    @property
    def body_bytes_max(self) -> int | None:
        """How many bytes a commit's body may have, as its store says."""
        return self._inner.body_bytes_max

    @property
    def snapshots(self) -> SnapshotStore:
        return self._snapshots

    @property
    def store(self) -> MemoryStore:
        """What survives a crash."""
        return self._inner.store

    @property
    def commits(self) -> Sequence[Commit]:
        """What a reader sees now."""
        return self._inner.store.commits

    @property
    def is_idle(self) -> bool:
        """Whether nothing is being written."""
        return self._writing is None

    def heal(self) -> None:
        """No fault happens any more. What is under way goes on as it was begun."""
        self.faults = Faults(latency_seconds_max=self.faults.latency_seconds_max)

    def crash(self) -> None:
        """The process that uses the log is gone: the store is free at once. It may be opened again afterwards.

        What the process still does fails with `StoreFault`. What it had under way is written or not; an engine on the
        log must be thrown away, too: `Simulation.crash` does both.
        """
        self._open, self._crashed = False, True
        writing, self._writing = self._writing, None
        if self._undone and self._happens(0.5):
            self._count("undone by the crash", f"commit {self._inner.store.commits.pop().number}")
            self._undone = False
        if writing is not None:
            for timer in writing.timers:
                timer.cancel()
            if len(writing.timers) == 1 and writing.fate in ("ok", "append_written") and self._happens(0.5):
                self._leave(writing.commit, "written as it crashed")
            if not writing.done.done():
                writing.done.set_exception(StoreFault("the process crashed"))
        if self._ghost is not None and self._happens(0.5):
            self._leave(self._ghost, "came back after the crash")
        self._ghost = None
        self._inner.store.locked = False
        self._inner.appended.tell()  # followers find out, too

    async def open(self, application: str, address: str | None = None) -> Leadership:
        self._crashed = False
        await self._work("open", self.faults.open_fails)
        leadership = await self._inner.open(application, address)
        self._open = True
        if self._happens(self.faults.open_unflushed):
            self._count("open_unflushed")
        else:
            self._flushed()
        return leadership

    async def wait_for_turn(self) -> None:
        await self._inner.wait_for_turn()

    async def leader(self) -> str | None:
        await self._work("read", self.faults.read_fails)
        return await self._inner.leader()

    async def attach(self) -> str:
        await self._work("attach", self.faults.open_fails)
        return await self._inner.attach()

    async def append(self, commit: Commit) -> None:
        await self._finish()
        self._require_process()
        if not self._open:
            raise CommitFailed(commit.number, "this log is not open for writing")
        require_size(commit, self.body_bytes_max)
        loop = asyncio.get_running_loop()
        self._writing = writing = _Writing(commit, self._fate(), loop.create_future(), [])
        writing.timers.append(loop.call_later(self._latency(), self._write, writing))
        await asyncio.shield(writing.done)

    async def read(self, after: int, bytes_max: int) -> Sequence[Commit]:
        await self._work("read", self.faults.read_fails)
        page = await self._inner.read(after, bytes_max)
        await anyio.sleep(self._latency())
        return page

    def follow(self, after: int, bytes_max: int) -> AsyncGenerator[Sequence[Commit], None]:
        return followed(self.read, self._inner.appended, after, bytes_max)

    def look_now(self) -> None:
        """Nothing to do: every append is signalled."""

    async def head(self) -> Head:
        await self._work("head", self.faults.head_fails)
        return await self._inner.head()

    async def probe(self) -> None:
        await self._work("probe", self.faults.probe_fails)
        await self._inner.probe()
        self._flushed()

    async def settle(self, commit: Commit) -> bool:
        return await settled_by_probe(self, commit)

    async def close(self) -> None:
        if not self._crashed:
            await self._finish()
            await self._inner.close()
            self._open = False

    # The store's side.

    def _write(self, writing: _Writing) -> None:
        """The first latency is over: the commit's fate comes about, and is known when a second one is over."""
        commit = writing.commit
        error: Exception | None = None
        if writing.fate == "append_refused":
            error = CommitFailed(commit.number, "the simulated store refused it")
        elif writing.fate in ("append_lost", "append_ghost"):
            error = StoreFault(f"commit {commit.number} failed")
            self._ghost = commit if writing.fate == "append_ghost" else self._ghost
        elif not self._take(commit):
            error = Fenced(self.name, commit.number, len(self.commits))
        elif writing.fate == "append_written":
            error, self._undone = StoreFault(f"commit {commit.number} was written, and failed"), True
        if writing.fate != "ok":
            self._count(writing.fate, f"commit {commit.number}")
        tell = asyncio.get_running_loop().call_later(self._latency(), self._tell, writing, error)
        writing.timers.append(tell)

    def _tell(self, writing: _Writing, error: Exception | None) -> None:
        self._writing = None
        if error is None:
            writing.done.set_result(None)
        else:
            writing.done.set_exception(error)

    def _take(self, commit: Commit) -> bool:
        if commit.number != len(self.commits) + 1:
            return False
        self._inner.store.add(commit)
        self._flushed()
        return True

    def _leave(self, commit: Commit, how: str) -> None:
        """A commit is there after a crash, though no caller knows of it and nothing has flushed it."""
        if self._take(commit):
            self._undone = True
            self._count(how, f"commit {commit.number}")

    def _flushed(self) -> None:
        """The store took something: what failed before is settled."""
        self._ghost, self._undone = None, False

    async def _finish(self) -> None:
        """Wait for what is under way, also where another caller has begun it."""
        while self._writing is not None:
            await asyncio.wait([self._writing.done])

    async def _work_on_snapshots(self) -> None:
        await self._work("snapshot", self.faults.snapshot_fails)

    async def _work(self, what: str, fails: float) -> None:
        self._require_process()
        await anyio.sleep(self._latency())
        self._require_process()
        if self._happens(fails):
            self._count(f"{what}_fails")
            raise StoreFault(f"the simulated store failed: {what}")

    # By the seed.

    def _fate(self) -> str:
        chance = self._random.random()
        for name in _FATES:
            chance -= getattr(self.faults, name)
            if chance < 0:
                return name
        return "ok"

    def _latency(self) -> float:
        held = self._happens(self.faults.held)
        if held:
            self._count("held")
        return self._random.uniform(0, self.faults.held_seconds_max if held else self.faults.latency_seconds_max)

    def _happens(self, share: float) -> bool:
        return self._random.random() < share

    def _count(self, what: str, detail: str = "") -> None:
        self.counts[what] += 1
        if self._note is not None:
            self._note(f"log: {what.replace('_', ' ')} {detail}".rstrip())

    def _require_process(self) -> None:
        if self._crashed:
            raise StoreFault("the process that used this log has crashed: open it again")

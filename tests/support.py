"""What several tests need: a log that fails when it is told to, and short names for common steps."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal, cast

import anyio
import anyio.abc
import anyio.lowlevel
import msgspec

from millstream.engine import App, CommitFailed, Engine, Limits, MemoryLog, MillstreamError, Observer, Replica
from millstream.engine.commits.commit import Commit, Head, seal
from millstream.engine.read.actor import ViewActor
from millstream.engine.read.state import ReadState
from millstream.engine.snapshots.part import Part
from millstream.engine.stores.following import followed
from millstream.engine.stores.leadership import Leadership
from millstream.engine.stores.memory import MemoryStore
from millstream.engine.stores.settling import settled_by_probe
from millstream.engine.stores.snapshot_port import SnapshotStore
from millstream.engine.write.agenda import Agenda
from millstream.engine.write.entries import AgendaEntry, Entry
from millstream.engine.write.index import WriteIndex
from millstream.engine.write.parts import WriteParts

#: How an append goes: well; refused for certain; failed before anything was written; failed after it was written.
Step = Literal["ok", "refused", "lost", "written"]


#: A `store_retry_seconds` for which nothing is asked twice: whoever waits hears of the first failure.
AT_ONCE = 1e-9

#: Work is never cut into slices, however slow the machine is: a batch is one commit, and those who watch do not rest.
UNSLICED = Limits(slice_ms_max=60_000.0)


def remarkable(lines: Iterable[Mapping[str, Any]]) -> list[str]:
    """The names of log lines above ``info``, but for the one that says how busy the machine is."""
    return [line["event"] for line in lines if line["log_level"] != "info" and line["event"] != "slow_commit"]


class StoreBroke(OSError):
    """What the scripted log raises: an error that millstream does not know."""


class Row(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A command as a body of format 1 has it, written by hand. ``events`` is a JSON array, encoded already."""

    type: str
    key: str | None = None
    id: str | None = None
    payload: str | None = None
    actor: str | None = None
    correlation: str | None = None
    causation: str | None = None
    offset: int = 0
    keys: list[str | None] | None = None
    events: msgspec.Raw = msgspec.Raw()


def sealed_rows(head: Head, recorded_at: str, rows: Sequence[Row]) -> Commit:
    """The commit that follows ``head``, with a body of format 1."""
    return seal(head, recorded_at, msgspec.json.encode(rows))


class Kept:
    """A promise that keeps what it was given."""

    def __init__(self, done: bool = False) -> None:
        self.was_done = done
        self.given: Any = None

    def done(self) -> bool:
        return self.was_done

    def set_result(self, result: Any, /) -> None:
        self.given = result

    def set_exception(self, exception: BaseException, /) -> None:
        self.given = exception


class ScriptedLog:
    """A real memory log whose appends, heads and reads fail when the script says so, and wait when they are held."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        self.inner = MemoryLog(store)
        self.steps: deque[Step] = deque()
        self.heads_fail = 0
        self.reads_fail = 0
        self.probes_fail = 0
        self.appends_started = 0
        self.reads_started = 0
        self.probes_started = 0
        self.hurried = 0
        self._gate: anyio.Event | None = None

    @property
    def name(self) -> str:
        return "scripted:"

    @property
    def id(self) -> str | None:
        return self.inner.id

    @property
    def snapshots(self) -> SnapshotStore:
        return self.inner.snapshots

    @property
    def commits(self) -> list[Commit]:
        return self.inner.store.commits

    def hold(self) -> None:
        """Let appends wait from now on."""
        self._gate = anyio.Event()

    def release(self) -> None:
        """Let those that wait go on."""
        if self._gate is not None:
            self._gate.set()
            self._gate = None

    async def open(self, application: str, address: str | None = None) -> Leadership:
        return await self.inner.open(application, address)

    async def wait_for_turn(self) -> None:
        await self.inner.wait_for_turn()

    async def leader(self) -> str | None:
        return await self.inner.leader()

    async def attach(self) -> str:
        return await self.inner.attach()

    async def append(self, commit: Commit) -> None:
        self.appends_started += 1
        if self._gate is not None:
            await self._gate.wait()
        step = self.steps.popleft() if self.steps else "ok"
        if step == "refused":
            raise CommitFailed(commit.number, "the script refused it")
        if step == "lost":
            raise StoreBroke("before it was written")
        await self.inner.append(commit)
        if step == "written":
            raise StoreBroke("after it was written")

    async def read(self, after: int, bytes_max: int) -> Sequence[Commit]:
        self.reads_started += 1
        if self.reads_fail:
            self.reads_fail -= 1
            raise StoreBroke("while reading")
        return await self.inner.read(after, bytes_max)

    def follow(self, after: int, bytes_max: int) -> AsyncGenerator[Sequence[Commit], None]:
        return followed(self.read, self.inner.appended, after, bytes_max)

    def look_now(self) -> None:
        self.hurried += 1

    async def head(self) -> Head:
        if self.heads_fail:
            self.heads_fail -= 1
            raise StoreBroke("while asked for the head")
        return await self.inner.head()

    async def probe(self) -> None:
        self.probes_started += 1
        if self.probes_fail:
            self.probes_fail -= 1
            raise StoreBroke("while probed")
        await self.inner.probe()

    async def settle(self, commit: Commit) -> bool:
        return await settled_by_probe(self, commit)

    async def close(self) -> None:
        await self.inner.close()


async def settled() -> None:
    """Wait until nothing moves any more.

    Several looks, because what one task hands to another by a callback makes all of them look blocked for a moment.
    """
    for _ in range(5):
        await anyio.wait_all_tasks_blocked()
        await anyio.lowlevel.checkpoint()


class Outcome:
    """What became of an awaitable that was started in a task group."""

    def __init__(self) -> None:
        self.value: Any = None
        self.error: BaseException | None = None
        self.settled = 0

    async def follow(self, awaitable: Awaitable[Any]) -> None:
        try:
            self.value = await awaitable
        except MillstreamError as error:
            self.error = error
        self.settled += 1

    @property
    def kind(self) -> str:
        """The outcome's type in a word, for comparing many at once."""
        if not self.settled:
            return "waiting"
        return type(self.value if self.error is None else self.error).__name__


def start(group: anyio.abc.TaskGroup, awaitable: Awaitable[Any]) -> Outcome:
    """Start an awaitable in the background; its outcome is noted."""
    outcome = Outcome()
    group.start_soon(outcome.follow, awaitable)
    return outcome


def views_of(running: Engine | Replica) -> list[ViewActor]:
    """The actors of all views, in the application's order."""
    return [each for each in running.followers if isinstance(each, ViewActor)]


@asynccontextmanager
async def views_held(running: Engine | Replica) -> AsyncIterator[None]:
    """A block in which views apply nothing: what is committed has its receipt, and nobody sees it yet."""
    async with AsyncExitStack() as held:
        for view in views_of(running):
            await held.enter_async_context(view.still)
        yield


@dataclass
class WriteStates:
    """What the writer decides on."""

    models: list[Any]
    index: WriteIndex


def write_state(engine: Engine) -> WriteStates:
    """The live write side. The writer has one: it is not recovering."""
    parts = [part for part in engine.parts() if not isinstance(part, ReadState)]
    *models, index = [part.state for part in parts if not isinstance(part.state, Agenda)]
    assert isinstance(index, WriteIndex)
    return WriteStates(models, index)


def agenda_of(engine: Engine) -> Agenda:
    """What the live write side owes, and what it has parked."""
    (agenda,) = [part.state for part in engine.parts() if isinstance(part.state, Agenda)]
    return agenda


def reactions_among(entries: Iterable[AgendaEntry]) -> list[Entry]:
    """All of them: each is of a reaction."""
    found = list(entries)
    assert all(isinstance(each, Entry) for each in found)
    return cast(list[Entry], found)


def parked_in(engine: Engine) -> list[Entry]:
    """The reactions that the live write side has parked."""
    return reactions_among(agenda_of(engine).parked.values())


def is_deciding(engine: Engine) -> bool:
    """Whether the writer has a state."""
    return engine.stats().writer.status == "deciding"


def published(engine: Engine) -> Head:
    """The last commit that all views were offered."""
    writer = engine.stats().writer
    return Head(writer.commit, writer.position)


def new_parts(app: App, limits: Limits) -> list[Part]:
    """All parts of an application, as they are before the first event."""
    views = [ReadState(app, view, parked_max=limits.view_parked_max, observer=Observer()) for view in app.views]
    return [*WriteParts(app, limits).all, *views]


def engine_state(engine: Engine) -> tuple[list[Any], list[Any]]:
    """The states of all write models with the index, and of all views, to compare a live engine with a replayed one."""
    write = write_state(engine)
    return [*write.models, write.index.versions, write.index.receipts], [view.read.state for view in views_of(engine)]


class Seen(Observer):
    """Notes what it is told, in order: the name of the hook, and the facts."""

    def __init__(self) -> None:
        self.happened: list[tuple[str, dict[str, Any]]] = []

    def names(self, *wanted: str) -> list[str]:
        """The hooks in the order in which they were told; only those of these names, if there are any."""
        return [name for name, _ in self.happened if not wanted or name in wanted]


def _note(hook: str) -> Callable[..., None]:
    def note(self: Seen, **facts: Any) -> None:
        self.happened.append((hook, facts))

    return note


for _hook in [name for name in vars(Observer) if not name.startswith("_")]:
    setattr(Seen, _hook, _note(_hook))


async def until(happens: Callable[[], object]) -> None:
    """Let others run until something has happened; it is looked at in each turn of the loop."""
    with anyio.fail_after(20):
        while not happens():
            await anyio.lowlevel.checkpoint()

"""Random histories of an engine, held against a plain model: the log, read as JSON by code that shares nothing with it.

A history is a list of lives, each one engine on the same log: commands alone and in groups, valid, refused, malformed
and failing; queries with and without ``after``; cancellations and timeouts; slow reads, detached and faulted views; a
store that refuses, loses, hides or delays commits; an intruder who appends behind the engine's back; an orderly end, an
end in the middle of it, or one that gives up waiting. Then every promise is checked that a caller was made.

They are played in a simulated world (`millstream.engine.testing`): a history takes no time, always goes the same way, and
one in which somebody is never answered ends at once.

The suite runs a few histories. ``MILLSTREAM_TORTURE=1 pytest tests/behaviour/test_model.py`` runs 5,000 longer ones, a larger
number as many; they take minutes.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple
from unittest import mock

import anyio
import anyio.abc
import anyio.lowlevel
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from millstream.bench.proofs.bodies import commands_in
from millstream.engine import (
    Command,
    Engine,
    Fenced,
    Limits,
    MemoryLog,
    MillstreamError,
    Query,
    Receipt,
    ViewFaulted,
    WriterUnavailable,
)
from millstream.engine.commits.commit import Commit
from millstream.engine.limits import COMMIT_BYTES_MIN
from millstream.engine.read import state as view_state
from millstream.engine.stores.memory import MemoryStore
from millstream.engine.testing import Simulation, simulate
from tests.shop import Add, Break, Broke, Everything, Move, Note, Notes, Nothing, StockOf, Take, shop
from tests.support import (
    Row,
    ScriptedLog,
    Step,
    StoreBroke,
    engine_state,
    is_deciding,
    published,
    sealed_rows,
    views_of,
    write_state,
)

_torture = int(os.environ.get("MILLSTREAM_TORTURE") or 0)
EXAMPLES = {0: 400, 1: 5_000}.get(_torture, _torture)
STEPS_MAX = 40 if _torture else 25

ITEMS = ("a", "b")
TURNS_MAX = 12


# What can happen.


class Order(NamedTuple):
    """A command to be made: it gets a number that tells it from all others."""

    kind: str
    item: str = "a"
    thousands: int = 0


class Send(NamedTuple):
    orders: tuple[Order, ...]
    many: bool = False
    timeout: float | None = None
    wait: bool = True
    #: Which version of its key one command alone expects.
    expects: Literal["any", "current", "next"] = "any"


class Again(NamedTuple):
    """A command that was sent alone is sent once more, with the same id."""

    which: int


class Ask(NamedTuple):
    what: str
    after: str | None = None
    timeout: float | None = None


class Cancel(NamedTuple):
    which: int


class LetRun(NamedTuple):
    turns: int


class TimePasses(NamedTuple):
    seconds: float


class StoreFails(NamedTuple):
    steps: Sequence[Step] = ()
    heads: int = 0
    reads: int = 0
    probes: int = 0


class Hold(NamedTuple):
    """Appends wait, before they write or after they wrote."""

    after_writing: bool = False


class Release(NamedTuple):
    pass


class Detach(NamedTuple):
    view: int


class HoldStill(NamedTuple):
    """A view applies nothing for some turns, as one with much to do, so that its queue fills."""

    view: int
    turns: int


class Intrude(NamedTuple):
    """Somebody else appends a commit."""


class Life(NamedTuple):
    """One engine, from opening to closing. It ends settled, abruptly, or with the store still holding its breath."""

    limits: dict[str, Any]
    steps: list[Any]
    end: str = "settled"
    slow_appends: int = 0
    slow_reads: int = 0
    check_purity: bool = False
    open_fails: bool = False


KEYED = ("add", "take", "move", "nothing")
NUMBERED = ("add", "add", "take", "take", "note")
ALONE_ONLY = ("move", "nothing", "fine", "view")
NEVER_WRITTEN = ("large", "invalid", "unknown", "raise", "wrong type", "stray", "apply", "mutate")

orders_anywhere = st.builds(
    Order, st.sampled_from(NUMBERED * 3 + NEVER_WRITTEN), st.sampled_from(ITEMS), st.integers(0, 2)
)
orders_alone = st.builds(Order, st.sampled_from(NUMBERED + ALONE_ONLY), st.sampled_from(ITEMS), st.integers(0, 2))
timeouts = st.sampled_from([None] * 6 + [0.0, 1e-5, 1e-3])
fates: list[Step] = ["ok", "refused", "lost", "written"]
failing = st.lists(st.sampled_from(fates), max_size=3)

expectations = st.sampled_from(["any", "any", "any", "current", "next"])
sends = st.one_of(
    st.builds(Send, orders_alone.map(lambda order: (order,)), st.just(False), timeouts, st.booleans(), expectations),
    st.builds(Send, orders_anywhere.map(lambda order: (order,)), st.just(False), timeouts, st.booleans()),
    st.builds(Send, st.lists(orders_anywhere, min_size=1, max_size=5).map(tuple), st.just(True), timeouts),
)
asks = st.builds(
    Ask,
    st.sampled_from(["everything", "stock", "notes", "broke", "answer fails"]),
    st.sampled_from([None, "last", "first", "next"]),
    timeouts,
)
let_run_a_while = st.builds(LetRun, st.integers(0, TURNS_MAX))
calm = st.one_of(
    let_run_a_while,
    *[sends] * 4,
    *[asks] * 2,
    *[let_run_a_while] * 3,
    st.builds(Again, st.integers(0, 5)),
    st.builds(Cancel, st.integers(0, 3)),
    st.builds(Detach, st.integers(0, 2)),
    st.builds(HoldStill, st.integers(0, 2), st.integers(1, 8 * TURNS_MAX)),
    st.builds(TimePasses, st.sampled_from([1e-5, 1e-3])),
)
stormy = st.one_of(
    *[calm] * 6,
    st.builds(StoreFails, failing, st.integers(0, 1), st.integers(0, 2), st.integers(0, 1)),
    st.one_of(st.builds(Hold, st.booleans()), st.builds(Release)),
)
limits = st.fixed_dictionaries(
    {
        "mailbox_commands_max": st.sampled_from([1, 2, 5, 1000]),
        "batch_commands_max": st.sampled_from([1, 2, 3, 500]),
        "batch_bytes_max": st.sampled_from([150, 2_000]),
        "view_queue_commits_max": st.sampled_from([1, 2, 4, 1000]),
        "view_queue_bytes_max": st.sampled_from([300, 10**6]),
        "view_waiters_max": st.sampled_from([1, 3, 1000]),
        "read_bytes_max": st.sampled_from([1, 400, 10**6]),
        "slice_ms_max": st.sampled_from([1e-6, 5e-3, 2.0]),
        "snapshot_events_every": st.sampled_from([1, 5, 10**6]),
        "verify_commits_min": st.sampled_from([1, 3, 1000]),
    }
)
lives = st.builds(
    Life,
    limits,
    st.one_of(
        st.lists(calm, max_size=STEPS_MAX),
        st.lists(calm, min_size=STEPS_MAX // 2, max_size=STEPS_MAX),
        st.lists(stormy, min_size=STEPS_MAX // 3, max_size=STEPS_MAX),
        st.lists(stormy, min_size=STEPS_MAX // 2, max_size=STEPS_MAX),
        st.lists(st.one_of(*[stormy] * 12, st.builds(Intrude)), min_size=STEPS_MAX // 3, max_size=STEPS_MAX),
    ),
    st.sampled_from(["settled", "settled", "settled", "abrupt", "abrupt", "given up"]),
    st.integers(0, 3),
    st.integers(0, 6),
    st.booleans(),
    st.sampled_from([False, False, False, True]),
)


# The store.


class UnsteadyLog(ScriptedLog):
    """A scripted log that takes its turns over everything, and can also hold what it has written already.

    It sees to it that nobody probes while something is being appended.
    """

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self.append_turns = self.read_turns = 0
        self._late: anyio.Event | None = None
        self._appending = 0

    def hold(self) -> None:
        if self._gate is None:
            super().hold()

    def hold_after_writing(self) -> None:
        self._late = self._late or anyio.Event()

    def release(self) -> None:
        super().release()
        if self._late is not None:
            self._late.set()
            self._late = None

    def be_well(self) -> None:
        self.release()
        self.steps.clear()
        self.heads_fail = self.reads_fail = self.probes_fail = 0

    async def append(self, commit: Commit) -> None:
        self._appending += 1
        try:
            await let_run(self.append_turns)
            try:
                await super().append(commit)
            finally:
                if self._late is not None and len(self.commits) >= commit.number:
                    await self._late.wait()
                await let_run(self.append_turns)
        finally:
            self._appending -= 1

    async def probe(self) -> None:
        assert not self._appending, "the store is asked only when nothing is under way"
        await let_run(self.append_turns)
        await super().probe()

    async def read(self, after: int, bytes_max: int) -> Sequence[Commit]:
        await let_run(self.read_turns)
        page = await super().read(after, bytes_max)
        await let_run(self.read_turns)
        return page


async def let_run(turns: int) -> None:
    for _ in range(turns):
        await anyio.lowlevel.checkpoint()


# What callers did, and what they heard.


@dataclass
class Call:
    """One call of `execute` or `execute_many`, or of `ask`."""

    scope: anyio.CancelScope
    timeout: float | None
    #: When it was made: the life, and the last commit that any caller had heard of.
    life: int
    heard: int
    #: How often it was answered, with what, and how many commits the log held then.
    answered: int = 0
    result: Any = None
    durable: int = 0
    done: anyio.Event = field(default_factory=anyio.Event)

    def settle(self, result: Any, durable: int) -> None:
        self.answered += 1
        self.result, self.durable = result, durable
        self.done.set()


@dataclass(kw_only=True)
class Sent(Call):
    numbers: list[int]
    wait: bool
    many: bool
    #: The version that was expected of the command's key.
    version: int | None = None
    #: Whether it is a command that somebody had sent before.
    again: bool = False


@dataclass(kw_only=True)
class Asked(Call):
    query: Query[Any]
    after: int
    #: Whether nobody had been told of that position.
    guessed: bool
    opened_at: int
    #: The position of the engine when it was asked.
    head: int = 0


class Cancelled(NamedTuple):
    """The result of a call that was cancelled; whether it was told that its command stands."""

    decided: bool


class Unknown(Command):
    item: str


def make(order: Order, number: int) -> Command:
    """The command, with its number in it wherever there is room for one."""
    match order.kind:
        case "add":
            return Add(order.item, 1000 + number)
        case "take":
            return Take(order.item, 1000 * order.thousands + number)
        case "note":
            return Note(f"{number}")
        case "large":
            return Note(f"{number} " + "x" * 70_000)
        case "move":
            return Move(order.item, ITEMS[order.thousands % 2])
        case "nothing":
            return Nothing(order.item)
        case "invalid":
            return Add(order.item, -number)
        case "unknown":
            return Unknown(order.item)
    return Break(order.kind)


QUERIES: dict[str, Callable[[], Query[Any]]] = {
    "everything": Everything,
    "stock": lambda: StockOf("a"),
    "notes": Notes,
    "broke": lambda: Broke("how"),
    "answer fails": lambda: Broke("raise"),
}


class World:
    """Plays a history and remembers what everybody heard."""

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.log = UnsteadyLog(MemoryStore())
        self.orders: dict[int, Order] = {}
        self.commands: dict[int, Command] = {}
        self.sent: list[Sent] = []
        self.asked: list[Asked] = []
        self.receipts: list[Receipt] = []
        #: The queries in the order in which they were answered.
        self.answers: list[Asked] = []
        #: Lives that ended in the middle; those in which the store failed, or that gave up on it; those with an intruder.
        self.cut_short: set[int] = set()
        self.troubled: set[int] = set()
        self.intruded: set[int] = set()
        self.life = 0

    async def play(self, history: Sequence[Life]) -> None:
        for self.life, life in enumerate(history):
            self.log.append_turns, self.log.read_turns = life.slow_appends, life.slow_reads
            if life.open_fails:
                self.log.reads_fail = 1
                with pytest.raises(StoreBroke):
                    await self.engine(life).__aenter__()
            await self.live(life)
            self.log.be_well()

    def engine(self, life: Life) -> Engine:
        bounds = Limits(**life.limits, commit_bytes_max=COMMIT_BYTES_MIN, cascade_bytes_max=10_000)
        return Engine(shop, log=self.log, limits=bounds, check_purity=life.check_purity)

    async def live(self, life: Life) -> None:
        async with anyio.create_task_group() as group, self.engine(life) as engine:
            opened_at = len(self.log.commits)
            for step in life.steps:
                await self.take_step(step, engine, group, life, opened_at)
            if life.end == "settled":
                await self.settle(engine)
            else:
                self.cut_short.add(self.life)
                self.log.release()
            if life.end == "given up":
                self.troubled.add(self.life)
                self.log.hold()
        states = read_log(self.log.commits).states
        for view in views_of(engine):
            if view.read.fault is None:
                expected = states[view.head.number].sides[view.name]
                assert fields(view.read.state) == expected, f"{view.name} when it was closed"

    async def take_step(
        self, step: Any, engine: Engine, group: anyio.abc.TaskGroup, life: Life, opened_at: int
    ) -> None:
        match step:
            case Send():
                self.send(step, engine, group, life)
            case Again(which):
                alone = [call.numbers[0] for call in self.sent if not call.many and not call.again]
                alone = [number for number in alone if life.check_purity or self.orders[number].kind != "mutate"]
                if alone:
                    number = alone[which % len(alone)]
                    self.call(self.new_call([number], again=True), engine, group)
            case Ask():
                await self.ask(step, engine, group, opened_at)
            case Cancel(which):
                waiting = [call for call in (*self.sent, *self.asked) if not call.answered]
                if waiting:
                    waiting[which % len(waiting)].scope.cancel()
            case LetRun(turns):
                await let_run(turns)
            case TimePasses(seconds):
                self.simulation.stall(seconds)
            case StoreFails(steps, heads, reads, probes):
                self.log.steps.extend(steps)
                self.log.heads_fail += heads
                self.log.reads_fail += reads
                self.log.probes_fail += probes
                if any(step != "ok" for step in steps) or reads:
                    self.troubled.add(self.life)
            case Hold(after_writing):
                self.log.hold_after_writing() if after_writing else self.log.hold()
            case Release():
                self.log.release()
            case Detach(view):
                views_of(engine)[view].resync(published(engine))
            case HoldStill(view, turns):
                group.start_soon(self.hold_still, engine, view, turns)
            case Intrude():
                self.intruded.add(self.life)
                head = await self.log.inner.head()
                record = Row("Add", "b", "intruder", events=msgspec.Raw(b'[{"type":"Added","item":"b","count":5000}]'))
                await self.log.inner.append(
                    sealed_rows(head, head.recorded_at or "2023-12-31T00:00:00.000000Z", [record])
                )

    async def hold_still(self, engine: Engine, view: int, turns: int) -> None:
        async with views_of(engine)[view].still:
            await let_run(turns)

    def send(self, step: Send, engine: Engine, group: anyio.abc.TaskGroup, life: Life) -> None:
        numbers = []
        for order in step.orders:
            numbers.append(number := len(self.commands) + 1)
            if order.kind == "mutate" and not life.check_purity:
                order = Order("raise")
            self.orders[number], self.commands[number] = order, make(order, number)
        item = step.orders[0].item if step.orders[0].kind in KEYED and not step.many else None
        version = None
        if step.expects != "any" and item is not None and is_deciding(engine):
            version = write_state(engine).index.versions.get(item, 0) + (step.expects == "next")
        call = self.new_call(numbers, step.timeout, wait=step.wait, many=step.many, version=version)
        self.call(call, engine, group)

    def new_call(
        self,
        numbers: list[int],
        timeout: float | None = None,
        *,
        wait: bool = True,
        many: bool = False,
        version: int | None = None,
        again: bool = False,
    ) -> Sent:
        heard = max((receipt.commit for receipt in self.receipts), default=0)
        made = Sent(
            anyio.CancelScope(),
            timeout,
            self.life,
            heard,
            numbers=numbers,
            wait=wait,
            many=many,
            version=version,
            again=again,
        )
        self.sent.append(made)
        return made

    def call(self, call: Sent, engine: Engine, group: anyio.abc.TaskGroup) -> None:
        commands, number = [self.commands[number] for number in call.numbers], call.numbers[0]

        async def wait_for_it() -> None:
            with call.scope:
                try:
                    result: Any
                    if call.many:
                        result = await engine.execute_many(commands, timeout=call.timeout)
                    else:
                        result = await engine.execute(
                            commands[0],
                            command_id=f"c{number}",
                            expected_version=call.version,
                            timeout=call.timeout,
                            wait=call.wait,
                        )
                except MillstreamError as error:
                    result = error
                except asyncio.CancelledError as error:
                    call.settle(Cancelled(bool(getattr(error, "__notes__", ()))), len(self.log.commits))
                    raise
                call.settle(result, len(self.log.commits))
                outcomes = result if call.many else [result]
                self.receipts += [outcome for outcome in outcomes if isinstance(outcome, Receipt)]

        group.start_soon(wait_for_it)

    async def ask(self, step: Ask, engine: Engine, group: anyio.abc.TaskGroup, opened_at: int) -> None:
        token: Receipt | int | None = None
        if step.after == "next":
            token = engine.position + 1
        elif step.after and self.receipts:
            token = self.receipts[-1 if step.after == "last" else 0]
        after = token.position if isinstance(token, Receipt) else token or 0
        query = QUERIES[step.what]()
        guessed = step.after == "next"
        call = Asked(
            anyio.CancelScope(),
            step.timeout,
            self.life,
            0,
            query=query,
            after=after,
            guessed=guessed,
            opened_at=opened_at,
        )
        self.asked.append(call)

        async def wait_for_it() -> None:
            with call.scope:
                call.head = engine.position
                try:
                    result = await engine.ask(query, after=token, timeout=step.timeout)
                except MillstreamError as error:
                    result = error
                except asyncio.CancelledError:
                    call.settle(Cancelled(decided=False), len(self.log.commits))
                    raise
                call.settle(result, len(self.log.commits))
                self.answers.append(call)

        group.start_soon(wait_for_it)

    async def settle(self, engine: Engine) -> None:
        """Wait until everybody is answered, then see that what lives is what the log says, and what a replay gives."""
        self.log.be_well()
        for asked in self.asked:
            asked.scope.cancel()
        for call in (*self.sent, *self.asked):
            await call.done.wait()
        try:
            last = await self.execute_at_last(engine)
        except Fenced:
            assert self.life in self.intruded
            return
        expected = read_log(self.log.commits).states[-1]
        assert await engine.ask(Everything(), after=last) == expected.sides["Shelf"]["stock"]
        assert await engine.ask(Notes(), after=last) == tuple(expected.sides["Pinboard"]["notes"])
        if expected.fault is None:
            assert await engine.ask(Broke("x"), after=last) == f"x {expected.sides['Fragile']['seen']}"
        else:
            with pytest.raises(ViewFaulted):
                await engine.ask(Broke("x"), after=last)
        assert sides(engine) == expected.sides
        assert write_state(engine).index.versions == expected.versions
        stats = engine.stats()
        assert (stats.writer.commit, stats.writer.position) == (len(self.log.commits), expected.position)
        assert (stats.writer.mailbox_commands, stats.writer.mailbox_entering) == (0, 0)
        async with Engine(shop, log=MemoryLog(MemoryStore(list(self.log.commits), "shop"))) as again:
            assert engine_state(again) == engine_state(engine)

    async def execute_at_last(self, engine: Engine) -> Receipt:
        """One more command, now that the store is well; the first may find the writer just failing to rebuild."""
        try:
            return await engine.execute(Nothing("a"), command_id=f"last{self.life}")
        except WriterUnavailable:
            assert self.life in self.troubled
            return await engine.execute(Nothing("a"), command_id=f"last{self.life}")


def fields(state: Any) -> dict[str, Any]:
    return msgspec.structs.asdict(state)


def sides(engine: Engine) -> dict[str, Any]:
    states = [*write_state(engine).models, *(view.read.state for view in views_of(engine))]
    return {type(state).__name__: fields(state) for state in states}


# The model: the log is the truth.


class State(NamedTuple):
    """What everybody must hold after a commit, or after one command within it."""

    commit: int
    position: int
    sides: dict[str, Any]
    fault: int | None
    versions: dict[str, int]


class Entry(NamedTuple):
    """One command in the log, and the states before and after it."""

    record: dict[str, Any]
    before: State
    after: State

    @property
    def receipt(self) -> Receipt:
        """What its caller must have been given."""
        key, events = self.record.get("key"), len(self.record["events"])
        version = None if key is None else self.after.versions.get(key, 0)
        return Receipt(self.after.commit, self.after.position, events, self.record.get("id"), version)


class History(NamedTuple):
    states: list[State]
    between: list[State]
    entries: dict[int, list[Entry]]


def number_of(record: dict[str, Any]) -> int | None:
    """Which command it was: by its id, or by the number in its one event."""
    if "id" in record:
        return int(record["id"][1:]) if record["id"].startswith("c") else None
    (event,) = record["events"]
    return int(event["text"]) if "text" in event else int(event["count"]) % 1000


def read_log(commits: Sequence[Commit]) -> History:
    """The states after each commit and between any two commands, and where each command stands."""
    state = State(0, 0, {}, None, {})
    state = apply([], state)
    history = History([state], [state], {})
    recorded_at = ""
    for index, commit in enumerate(commits, start=1):
        assert (commit.number, commit.position) == (index, state.position + 1), "numbers and positions have no gap"
        assert commit.recorded_at >= recorded_at, "time never goes back"
        recorded_at = commit.recorded_at
        for record in commands_in(commit.body):
            assert record.get("offset", 0) == state.position + 1 - commit.position
            before, state = state, apply(record["events"], state)._replace(commit=index)
            number = number_of(record)
            if number is not None:
                history.entries.setdefault(number, []).append(Entry(record, before, state))
            history.between.append(state)
        history.states.append(state._replace(commit=index))
    return history


def apply(events: list[dict[str, Any]], state: State) -> State:
    """What the shop makes of events, written down a second time."""
    stock: dict[str, int] = dict(state.sides["Shelf"]["stock"]) if state.sides else {}
    notes: list[str] = list(state.sides["Pinboard"]["notes"]) if state.sides else []
    adds, seen, fault = state.sides["Book"]["adds"] if state.sides else 0, 0, state.fault
    seen = state.sides["Fragile"]["seen"] if state.sides else 0
    versions = dict(state.versions)
    for position, event in enumerate(events, start=state.position + 1):
        if "item" in event:
            versions[event["item"]] = versions.get(event["item"], 0) + 1
        match event["type"]:
            case "Added":
                stock[event["item"]] = stock.get(event["item"], 0) + event["count"]
                adds += 1
            case "Taken":
                stock[event["item"]] -= event["count"]
            case "Noted":
                notes.append(event["text"])
            case "Broken" if event["how"] == "view":
                fault = fault or position
            case "Broken":
                seen += fault is None
    sides = {
        "Stock": {"stock": stock},
        "Book": {"notes": notes, "adds": adds},
        "Shelf": {"stock": stock},
        "Pinboard": {"notes": notes},
        "Fragile": {"seen": seen},
    }
    return State(state.commit, state.position + len(events), sides, fault, versions)


def decided(command: Command, state: State) -> list[dict[str, Any]] | None:
    """The events that a command must have in the log on this state; None when it has no business there."""
    stock = state.sides["Stock"]["stock"]
    match command:
        case Add(item, count) if count > 0:
            return [{"type": "Added", "item": item, "count": count}]
        case Take(item, count):
            return [{"type": "Taken", "item": item, "count": count}] if stock.get(item, 0) >= count else None
        case Note(text) if len(text) < 1_000:
            return [{"type": "Noted", "text": text}]
        case Move(item, to):
            moved = {"count": stock.get(item, 0)}
            both = [{"type": "Taken", "item": item} | moved, {"type": "Added", "item": to} | moved]
            return both if moved["count"] else []
        case Nothing():
            return []
        case Break("fine" | "view" as how):
            return [{"type": "Broken", "how": how}]
    return None


# What was promised.


def check_log(world: World, history: History) -> None:
    """Each command at most once, with the events that it must have on the state before it, in the order of asking."""
    for number, entries in history.entries.items():
        assert len(entries) == 1, f"command {number} is in the log more than once"
        events = [
            {k: v for k, v in event.items() if k not in ("by", "at", "id")} for event in entries[0].record["events"]
        ]
        assert events == decided(world.commands[number], entries[0].before), f"command {number}"
        first = [call for call in calls_of(world, number) if is_first(call.result)]
        assert len(first) <= 1, f"command {number} was executed for the first time more than once"
    order = [number for number in history.entries if [call.many for call in calls_of(world, number)] == [False]]
    assert order == sorted(order), "commands are decided in the order in which they came"


def calls_of(world: World, number: int) -> list[Sent]:
    return [call for call in world.sent if number in call.numbers]


def is_first(outcome: Any) -> bool:
    return isinstance(outcome, Receipt) and not outcome.repeated


ALWAYS = {"add": "Receipt", "note": "Receipt", "move": "Receipt", "nothing": "Receipt", "fine": "Receipt"} | {
    "view": "Receipt",
    "take": "Receipt Rejected",
    "large": "CommitTooLarge",
    "invalid": "InvalidMessage",
    "unknown": "UnknownMessage",
    "raise": "HandlerFailed",
    "wrong type": "HandlerFailed",
    "stray": "HandlerFailed",
    "apply": "ApplyFailed",
    "mutate": "ImpureHandler",
}


def check_outcome(world: World, history: History, call: Sent, number: int, outcome: Any) -> None:
    """That one command's answer is one that it may have, and that the log agrees with it."""
    kind, name = world.orders[number].kind, type(outcome).__name__
    possible = {*ALWAYS[kind].split(), "Cancelled"}
    possible |= {"EngineClosed"} if call.life in world.cut_short else set()
    possible |= {"DeadlineExceeded"} if call.timeout is not None else set()
    possible |= set() if call.wait or call.many else {"Overloaded"}
    possible |= {"CommitFailed", "OutcomeUnknown", "WriterUnavailable"} if call.life in world.troubled else set()
    possible |= {"Fenced"} if call.life in world.intruded else set()
    possible |= {"VersionConflict"} if call.version is not None else set()
    assert name in possible, f"command {number}: {outcome!r}"

    written, others = len(history.entries.get(number, ())), len(calls_of(world, number)) > 1
    may_stand = name == "OutcomeUnknown" or (name in ("DeadlineExceeded", "Cancelled") and outcome.decided)
    may_stand |= name == "Cancelled" and call.many
    if name == "Receipt":
        (entry,) = history.entries[number]
        assert outcome == replace(entry.receipt, repeated=outcome.repeated)
        assert outcome.commit <= call.durable, "acknowledged when it is durable"
        if outcome.repeated:
            assert others, f"command {number} was sent once"
        else:
            assert call.heard < outcome.commit, "after what came before"
            assert call.version in (None, entry.before.versions.get(world.orders[number].item, 0))
    elif not may_stand:
        assert written == 0 or others, f"command {number} is in the log: {outcome!r}"
    elif name == "DeadlineExceeded" or not call.many:
        calm = call.life not in world.troubled and call.life not in world.intruded and call.version is None
        if calm and ALWAYS[kind] == "Receipt" and name != "OutcomeUnknown":
            assert written == 1, f"command {number} was said to stand: {outcome!r}"
    states = [state for state in history.between if call.heard <= state.commit <= call.durable]
    item = world.orders[number].item
    if name == "Rejected":
        left = outcome.details["left"]
        assert left in [state.sides["Stock"]["stock"].get(item, 0) for state in states], "refused on what is durable"
    if name == "VersionConflict":
        assert (outcome.key, outcome.expected) == (item, call.version)
        assert outcome.actual != outcome.expected
        assert outcome.actual in [state.versions.get(item, 0) for state in states], "refused on what is durable"


def check_answers(world: World, history: History) -> None:
    """Each view's answers are the states after whole commits that were durable, none before the one it gave before."""
    reached: Counter[tuple[int, str]] = Counter()
    for call in world.answers:
        answer, view = call.result, VIEW_OF[type(call.query)]
        name = type(answer).__name__
        if call.after > call.head and name == "InvalidMessage":
            continue  # nobody was given such a position
        if isinstance(answer, MillstreamError):
            assert name in {"EngineClosed", "ViewBehind"} | ({"InvalidMessage"} if call.guessed else set()) | (
                {"NotYetVisible"} if call.timeout is not None else set()
            ) | ({"ViewFaulted", "AnswerFailed"} if view == "Fragile" else set()), repr(answer)
            if isinstance(answer, ViewFaulted):
                fault = history.states[call.durable].fault
                assert answer.position == fault, "faulted by what is durable"
            continue
        first = max(reached[call.life, view], call.opened_at)
        for state in history.states[first : call.durable + 1]:
            if state.position >= call.after and answer == expected_answer(call.query, state):
                reached[call.life, view] = state.commit
                break
        else:
            raise AssertionError(f"{call.query!r} was answered {answer!r}, at no commit after {first} and {call.after}")


VIEW_OF: dict[type[Any], str] = {Everything: "Shelf", StockOf: "Shelf", Notes: "Pinboard", Broke: "Fragile"}


def expected_answer(query: Query[Any], state: State) -> Any:
    match query:
        case Everything():
            return state.sides["Shelf"]["stock"]
        case StockOf(item):
            return state.sides["Shelf"]["stock"].get(item, 0)
        case Notes():
            return tuple(state.sides["Pinboard"]["notes"])
        case Broke(how):
            return f"{how} {state.sides['Fragile']['seen']}" if state.fault is None else None


def alone(kind: str, **how: Any) -> Send:
    return Send((Order(kind),), **how)


#: Bounds of histories that are written out.
BOUNDS = {"batch_commands_max": 1, "batch_bytes_max": 2_000, "view_queue_commits_max": 4, "read_bytes_max": 1}

#: Histories that once went wrong, in as few steps as possible.
WENT_WRONG = {
    "a command that was cancelled before its turn is not said to stand": Life(BOUNDS, [alone("add"), Cancel(0)]),
    "nobody overtakes a caller who was let in and has not come yet": Life(
        BOUNDS | {"mailbox_commands_max": 2},
        [*[alone("add", wait=False)] * 2, alone("add"), LetRun(1), alone("add", wait=False), Cancel(0)],
    ),
    "a state that was lost while a commit landed is rebuilt for those who wait": Life(
        BOUNDS | {"mailbox_commands_max": 1, "batch_commands_max": 2},
        [alone("add", wait=False), alone("add"), Send((Order("apply"), Order("add")), many=True)],
        slow_appends=1,
        slow_reads=1,
    ),
    "a commit that was written stands, though the store failed and another writer came next": Life(
        BOUNDS, [Hold(after_writing=True), StoreFails(["written"]), alone("add"), LetRun(9), Intrude(), Release()]
    ),
    "a caller who was let in just before the writer stopped is answered": Life(
        BOUNDS | {"mailbox_commands_max": 1}, [Intrude(), Send((Order("apply"), Order("add")), many=True)]
    ),
}


#: Histories that chance seldom finds.
SELDOM_FOUND = {
    "what another writer has written is not taken for one's own after an unclear failure": Life(
        BOUNDS, [Hold(), StoreFails(["lost"]), alone("add"), LetRun(9), Intrude(), Release(), LetRun(9)]
    ),
    "views learn of a commit that is found only when the state is rebuilt": Life(
        BOUNDS, [StoreFails(["written"], probes=1), alone("add"), LetRun(12), alone("add"), LetRun(12)]
    ),
}


def check(history: Sequence[Life], seed: int = 0, stalls: float = 0.0) -> None:
    """Play a history, and see that every promise was kept that was made in it."""

    async def play(simulation: Simulation) -> World:
        world = World(simulation)
        await world.play(history)
        return world

    with mock.patch.object(view_state, "_STRIDE", 1):  # a view may rest within any commit
        world = simulate(play, seed=seed, stalls=stalls).result
    found = read_log(world.log.commits)
    check_log(world, found)
    for call in world.sent:
        assert call.answered == 1, "everybody is answered exactly once"
        outcomes = call.result if isinstance(call.result, list) else [call.result] * len(call.numbers)
        for number, outcome in zip(call.numbers, outcomes, strict=True):
            check_outcome(world, found, call, number, outcome)
    assert [call.answered for call in world.asked] == [1] * len(world.asked)
    check_answers(world, found)


@settings(
    max_examples=EXAMPLES,
    report_multiple_bugs=False,
    suppress_health_check=[*settings().suppress_health_check, HealthCheck.data_too_large],
)
@given(st.lists(lives, min_size=1, max_size=3), st.integers(0, 999), st.sampled_from([0.0, 0.0, 0.05]))
def test_whatever_happens_every_promise_is_kept_and_a_replay_gives_what_lived(
    history: list[Life], seed: int, stalls: float
) -> None:
    check(history, seed, stalls)


def test_an_event_that_cannot_be_applied_is_not_written_while_the_store_is_not_trusted() -> None:
    check([Life(BOUNDS, [StoreFails(["refused"]), alone("add"), LetRun(12), alone("apply"), LetRun(12)])])


@pytest.mark.parametrize("life", WENT_WRONG.values(), ids=WENT_WRONG)
def test_a_history_that_once_went_wrong_goes_well(life: Life) -> None:
    check([life])


@pytest.mark.parametrize("life", SELDOM_FOUND.values(), ids=SELDOM_FOUND)
def test_a_history_that_chance_seldom_finds_goes_well(life: Life) -> None:
    check([life])


@pytest.mark.parametrize("end", ["settled", "abrupt"])
@pytest.mark.parametrize("read_bytes_max", [1, 10**6])
@pytest.mark.parametrize("slow_reads", [1, 2, 3])
def test_a_view_that_joins_at_any_moment_misses_nothing_and_doubles_nothing(
    slow_reads: int, read_bytes_max: int, end: str
) -> None:
    """Every turn of the loop is tried as the one in which the view is detached, while commits keep coming."""
    bounds = BOUNDS | {"read_bytes_max": read_bytes_max}
    for commits in (4, 7):
        writing = Send((Order("add"),) * commits, many=True)
        for turns in range(30):
            joining = [writing, LetRun(turns), Detach(0), Ask("everything", "last"), LetRun(2), Ask("everything")]
            check([Life(bounds, joining, end, slow_reads=slow_reads)])


@pytest.mark.parametrize("slow_reads", [0, 1])
def test_a_query_at_any_moment_is_answered_from_whole_commits(slow_reads: int) -> None:
    """Every turn of the loop is tried as the one in which the question comes, also while the view reads from the log."""
    bounds = BOUNDS | {"batch_commands_max": 500, "slice_ms_max": 1e-6}
    writing = [Send((Order("add"),) * 5, many=True), Send((Order("add", "b"),) * 5, many=True)]
    for detached in ([], [Detach(0)]):
        for turns in range(60):
            check([Life(bounds, [*writing, *detached, LetRun(turns), Ask("everything")], slow_reads=slow_reads)])

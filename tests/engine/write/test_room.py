"""Room in a commit: whatever commands, reactions, timers and effects come to, no body is larger than it may be."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import anyio
import anyio.lowlevel
import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from millstream.engine import (
    App,
    Command,
    CommitTooLarge,
    Engine,
    Event,
    Key,
    Limits,
    MemoryLog,
    Metadata,
    Receipt,
)
from millstream.engine.application.options import Terms
from millstream.engine.commits.commit import Head
from millstream.engine.commits.record import Tenure
from millstream.engine.limits import COMMIT_BYTES_MIN
from millstream.engine.stores.memory import MemoryStore
from millstream.engine.write.batch import Draft, fill
from millstream.engine.write.envelope import Envelope
from millstream.engine.write.kernel import decide
from millstream.engine.write.parts import WriteParts
from millstream.engine.write.rows import Rows
from millstream.engine.write.state import WriteState
from millstream.handlers import (
    Decision,
    Effects,
    Reaction,
    Rejected,
    Schedule,
    WriteModel,
    applies,
    handles,
    performs,
    reacts,
)
from tests.support import UNSLICED, Kept, agenda_of, write_state

pytestmark = pytest.mark.anyio

#: Six bytes each, as JSON.
SIGN = "\x01"

How = Literal["send", "refuse", "far", "raise", "timer", "outside"]


class Step(msgspec.Struct, frozen=True):
    how: How
    size: int
    count: int


class Fill(Command):
    pad: Key
    sizes: tuple[int, ...]
    steps: tuple[Step, ...] = ()
    timers: int = 0


class Tick(Command):
    pad: Key
    size: int = 0


class Deny(Command):
    pad: Key
    size: int


class Ask(Command):
    pad: Key
    size: int


class Filled(Event):
    pad: Key
    text: str
    steps: tuple[Step, ...] = ()


class Ticked(Event):
    """Nothing follows from it."""

    pad: Key
    text: str = ""


class Asked(Event):
    pad: Key
    size: int


class Pad(WriteModel):
    filled: int = 0
    ticks: int = 0

    @handles
    def fill(self, command: Fill) -> Decision:
        for index, size in enumerate(command.sizes):
            yield Filled(command.pad, "x" * size, command.steps if index == 0 and not command.timers else ())
        for number in range(command.timers):
            then = Fill(command.pad, (10,), command.steps)
            yield Schedule(then, after=timedelta(0), name=f"{SIGN * 40}{number}")

    @handles
    def tick(self, command: Tick) -> Iterator[Ticked]:
        yield Ticked(command.pad, "x" * command.size)

    @handles
    def deny(self, command: Deny) -> Iterator[Filled]:
        raise Rejected("no", SIGN * command.size)

    @handles
    def ask(self, command: Ask) -> Iterator[Asked]:
        yield Asked(command.pad, command.size)

    @applies
    def on_filled(self, event: Filled) -> None:
        self.filled += len(event.text)

    @applies
    def on_ticked(self, event: Ticked) -> None:
        self.ticks += 1

    @reacts
    def follow(self, event: Filled) -> Reaction:
        for step in event.steps:
            for number in range(step.count):
                match step.how:
                    case "send":
                        yield Fill(event.pad, (step.size,))
                    case "refuse":
                        yield Deny(event.pad, step.size)
                    case "far":
                        yield Deny("k" * step.size, 2_000)
                    case "raise":
                        raise ValueError(SIGN * step.size)
                    case "timer":
                        yield Schedule(Fill(event.pad, (step.size,)), after=timedelta(0))
                    case "outside":
                        yield Ask(f"{event.pad}{number}", step.size)

    @reacts
    def fail(self, event: Filled) -> Reaction:
        if len(event.text) % 7 == 0:
            raise ValueError(SIGN * 3_000)
        yield from ()


class Outside(Effects):
    @performs
    async def answer(self, event: Asked) -> Command:
        return Fill(event.pad, (event.size,))


pads = App(models=[Pad], effects=[Outside], name="pads", version="1")

small = st.integers(0, 2_000)
sizes = st.lists(small | st.integers(0, 30_000), max_size=3).map(tuple)
steps = st.builds(
    Step, st.sampled_from(["send", "refuse", "far", "raise", "timer", "outside"]), small, st.integers(1, 40)
)
fills = st.builds(
    Fill, st.sampled_from(["p", SIGN * 300]), sizes, st.lists(steps, max_size=3).map(tuple), st.integers(0, 3)
)
commands = fills | st.builds(Tick, st.sampled_from("ab")) | st.builds(Tick, st.sampled_from("ab"))
given_with = st.none() | st.builds(
    lambda actor, extra: Metadata(actor=actor, extra={"note": extra} if extra else None),
    st.sampled_from(["ann", SIGN * 100, "ä" * 500]),
    st.sampled_from(["", "x" * 2_500]),
)
ids = st.none() | st.sampled_from(["", SIGN * 150, "é" * 190])
roots = st.lists(st.tuples(commands, ids, given_with), max_size=40)


def terms_of(number: int, command_id: str | None, metadata: Metadata | None) -> Terms | None:
    if command_id is None and metadata is None:
        return None
    name = None if command_id is None else f"{number}{command_id}"
    return Terms(command_id=name, payload="0" * 32 if name else "", metadata=metadata)


@settings(max_examples=150)
@given(roots)
@example([(Tick("a"), SIGN * 150, Metadata(actor="ä" * 500))] * 40)
@example([(Fill("p", (7,) * 400, (Step("send", 0, 40),)), None, None)] * 3)
def test_a_body_never_has_more_bytes_than_were_counted_for_it(
    given_roots: list[tuple[Command, str | None, Metadata | None]],
) -> None:
    limits = Limits()
    state = WriteState(pads, WriteParts(pads, limits), limits)
    rows, tenure = Rows(Head(), datetime(2026, 1, 1, tzinfo=UTC)), Tenure(1, "h" * 255, "1.0.0", "1")
    for number, (command, command_id, metadata) in enumerate(given_roots):
        decide([(None, command, terms_of(number, command_id, metadata))], state, rows, limits)
        counted = limits.commit_bytes_max - rows.room(state, limits)
        assert len(rows.body(pads, tenure)) <= counted


@settings(max_examples=60)
@given(roots)
@example([(Tick("a"), SIGN * 150, Metadata(actor="ä" * 500))] * 40)
@example([(Fill("p", (15_000,), (Step("send", 2_000, 40),)), None, None), (Tick("a"), None, None)] * 20)
@example([(Fill("p", (1,), (Step("refuse", 2_000, 40),) * 3), None, None)] * 20)
@example([(Fill("p", (7,) * 100), None, None)] * 20)
@example([(Fill("p", (1,), (Step("outside", 12_000, 9),)), None, None)] * 4)
@example([(Fill("p", (51_001,), (Step("send", 2_003, 7),)), None, None)])
@example([(Fill("p", (7,), (Step("far", 65_000, 1),)), None, None)])
@example([(Fill("p", (7,), (Step("send", 1, 300), Step("far", 65_000, 1))), None, None)])
@example([(Fill("p", (7,), (Step("far", 15_000, 1),), 3), None, None)] * 3)
@example([(Tick("a", 15_900), None, None), (Tick("a", 50_400), None, None)] * 3)
@example([(Fill("p", (1,), (Step("send", 1, 9),), 9), None, Metadata(extra={"note": "x" * 2_500}))])
@example([(Ask(f"p{number}", 1), None, Metadata(extra={"note": "x" * 2_500})) for number in range(60)])
def test_a_store_that_takes_little_is_never_given_more_and_nothing_is_lost(
    given_roots: list[tuple[Command, str | None, Metadata | None]],
) -> None:
    store = MemoryStore(body_bytes_max=COMMIT_BYTES_MIN)

    async def scenario() -> None:
        async with Engine(pads, log=MemoryLog(store), limits=UNSLICED) as engine:
            outcomes: list[Any] = []

            async def send(number: int, command: Command, command_id: str | None, metadata: Metadata | None) -> None:
                name = None if command_id is None else f"{number}{command_id}"
                try:
                    outcomes.append(await engine.execute(command, command_id=name, metadata=metadata))
                except CommitTooLarge as error:
                    outcomes.append(error)

            async with anyio.create_task_group() as group:
                for number, each in enumerate(given_roots):
                    group.start_soon(send, number, *each)
            await quiet(engine)
            assert len(outcomes) == len(given_roots)
            assert all(each.size_bytes > COMMIT_BYTES_MIN // 2 for each in outcomes if isinstance(each, CommitTooLarge))
            live, agenda = write_state(engine).models[0], agenda_of(engine)
            filled, ticks = live.filled, live.ticks
            assert ticks == sum(isinstance(each, Tick) for each, _, _ in given_roots) + 1
        async with Engine(pads, log=MemoryLog(store), effects=False, snapshots=False) as again:
            (state,) = write_state(again).models
            assert (state.filled, state.ticks, agenda_of(again)) == (filled, ticks, agenda)

    anyio.run(scenario)
    assert all(len(commit.body) <= COMMIT_BYTES_MIN for commit in store.commits)


plain = st.builds(Tick, st.sampled_from("ab"), st.sampled_from([0, 10, 9_000]))
filling = st.builds(
    Fill, st.sampled_from(["p", SIGN * 300]), st.lists(st.sampled_from([1, 5_006]), max_size=2).map(tuple)
)


@settings(max_examples=30)
@given(st.lists(st.tuples(plain | filling, given_with), max_size=20))
def test_with_a_smaller_bound_outcomes_are_the_same(sent: list[tuple[Command, Metadata | None]]) -> None:
    async def outcomes(store: MemoryStore) -> list[Any]:
        async with Engine(pads, log=MemoryLog(store), effects=False) as engine:
            found: list[Any] = []
            for number, (command, metadata) in enumerate(sent):
                events = len(engine.preview(command))
                receipt = await engine.execute(command, command_id=f"{number}", metadata=metadata)
                assert receipt.events == events
                found.append((receipt.position, receipt.events, receipt.version, receipt.parked))
            for each in await engine.execute_many([command for command, _ in sent]):
                assert isinstance(each, Receipt)
                found.append((each.position, each.events, each.version, each.parked))
            return [*found, write_state(engine).models[0].filled]

    small = anyio.run(outcomes, MemoryStore(body_bytes_max=COMMIT_BYTES_MIN))
    assert small == anyio.run(outcomes, MemoryStore())


@pytest.mark.parametrize("types", [50, 300])
def test_a_small_store_has_room_for_an_application_of_many_types(types: int) -> None:
    methods: dict[str, Any] = {}
    for number in range(types):
        fields = {"__annotations__": {"pad": Key}, "__module__": __name__}
        event = type(f"SomethingOfKind{number:03}Happened", (Event,), fields)

        def apply(self: Any, event: Any) -> None: ...

        apply.__annotations__ = {"event": event, "return": None}
        methods[f"on_{number}"] = applies(apply)
    app = App(models=[Pad, type("Many", (WriteModel,), methods)], effects=[Outside], name="wide")
    limits = Limits().within(COMMIT_BYTES_MIN)
    state = WriteState(app, WriteParts(app, limits), limits)
    rows = Rows(Head(), datetime(2026, 1, 1, tzinfo=UTC))
    decide([(None, Fill("p", (8,)), None), *[(None, Tick("a"), None)] * 20], state, rows, limits)
    assert len(rows.outcomes) == 21
    assert all(isinstance(each, Receipt) for each in rows.outcomes)


def test_a_key_is_counted_once_and_as_it_is_written() -> None:
    limits = Limits().within(COMMIT_BYTES_MIN)
    state = WriteState(pads, WriteParts(pads, limits), limits)
    rows = Rows(Head(), datetime(2026, 1, 1, tzinfo=UTC))
    decide([(None, Tick("k" * 50_000), None)], state, rows, limits)
    assert isinstance(rows.outcomes[0], Receipt)


def test_those_who_come_after_a_command_that_led_to_many_have_room_beside_it() -> None:
    limits, note = Limits(slice_ms_max=60_000).within(1024 * 1024), Metadata(extra={"note": "x" * 4_070})
    much = (Fill("p", (1,), (Step("send", 1, 100),)), Terms(metadata=note))
    after = [(Tick("a"), Terms(f"{number}{SIGN * 190}", payload="0" * 32, metadata=note)) for number in range(50)]
    told: list[Any] = [(Fill("p", (235_000,)), None), *[much] * 3, *after]
    queue: deque[Envelope] = deque((Kept(), *each) for each in told)
    state = WriteState(pads, WriteParts(pads, limits), limits)
    bodies = []
    while queue:
        draft = Draft(Head(), datetime(2026, 1, 1, tzinfo=UTC))
        fill(draft, queue, state, limits)
        bodies.append(len(draft.body(pads)))
    assert 900_000 < max(bodies) <= limits.commit_bytes_max


async def quiet(engine: Engine) -> None:
    """All that was owed or due is decided, and durable."""
    with anyio.fail_after(60):
        while True:
            agenda = agenda_of(engine)
            if not (agenda.owed or agenda.timers or agenda.effects):
                break
            await anyio.lowlevel.checkpoint()
        await engine.execute(Tick("end"))

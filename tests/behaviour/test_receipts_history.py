"""Any history of commands with ids and versions, of restarts and crashes, against a plain model of what must come of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import pytest
import uvloop
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from msgspec.structs import replace

from millstream.engine import Command, Engine, Limits, Receipt
from tests.shop import Add, Move, Note, Nothing, Take, shop
from tests.stores import MemoryPlace
from tests.support import Outcome, write_state


class Sent(NamedTuple):
    """A command with its terms."""

    command: Command
    command_id: str | None
    expected_version: int | None = None


class Model:
    """What must come of commands: two dicts, and the rules of the shop once more."""

    def __init__(self) -> None:
        self.stock: Counter[str] = Counter()
        self.versions: Counter[str] = Counter()
        self.receipts: dict[str, tuple[Command, Receipt]] = {}
        self.commit = self.position = 0

    def outcome(self, sent: Sent, commit: int) -> Receipt | str:
        """The receipt, if the command stands in that commit, or the name of the error; changes what follows from it."""
        command, command_id, expected = sent
        key = getattr(command, "item", None)
        if expected is not None and key is None:
            return "InvalidMessage"
        if command_id in self.receipts:
            before, receipt = self.receipts[command_id]
            return replace(receipt, repeated=True) if before == command else "CommandIdReused"
        if expected not in (None, self.versions[key or ""]):
            return "VersionConflict"
        if isinstance(command, Take) and self.stock[command.item] < command.count:
            return "Rejected"
        return self.happened(command, command_id, key, commit)

    def happened(self, command: Command, command_id: str | None, key: str | None, commit: int) -> Receipt:
        keys: list[str] = []
        match command:
            case Add(item, count):
                self.stock[item] += count
                keys = [item]
            case Take(item, count):
                self.stock[item] -= count
                keys = [item]
            case Move(item, to) if count := self.stock[item]:
                self.stock[item] -= count
                self.stock[to] += count
                keys = [item, to]
        self.versions.update(keys)
        events = 1 if isinstance(command, Note) else len(keys)
        if events or command_id is not None:  # else nothing is written
            self.commit = commit
        self.position += events
        version = None if key is None else self.versions[key]
        receipt = Receipt(self.commit, self.position, events, command_id, version)
        if command_id is not None:
            self.receipts[command_id] = command, receipt
            for oldest in list(self.receipts)[:-RECEIPTS_MAX]:
                del self.receipts[oldest]
        return receipt


RECEIPTS_MAX = 3
ITEMS = st.sampled_from("ab")
IDS = st.sampled_from([None, "1", "2", "3", "4", "5"])
SENT = st.one_of(
    st.builds(Add, ITEMS, st.integers(1, 2)),
    st.builds(Take, ITEMS, st.integers(1, 2)),
    st.builds(Move, ITEMS, ITEMS),
    st.builds(Nothing, ITEMS),
    st.builds(Note, st.just("hi")),
)


class Histories(RuleBasedStateMachine):
    """One log, one engine after the other on it, and the model beside them."""

    loop_factory: Callable[[], asyncio.AbstractEventLoop]
    #: How many outcomes were those of the model.
    agreed: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=self.loop_factory)
        self.place = MemoryPlace()
        self.model = Model()
        self.open(True)

    def open(self, snapshots: bool) -> None:
        limits = Limits(receipts_max=RECEIPTS_MAX, snapshot_events_every=2)
        self.engine = Engine(shop, log=self.place.log(), limits=limits, snapshots=snapshots)
        self.runner.run(self.engine.__aenter__())

    def close(self) -> None:
        self.runner.run(self.engine.__aexit__(None, None, None))

    @rule(command=SENT, command_id=IDS, expected=st.sampled_from([None, None, 0, 1, 2, 3]))
    def send(self, command: Command, command_id: str | None, expected: int | None) -> None:
        wanted = self.model.outcome(Sent(command, command_id, expected), self.model.commit + 1)
        outcome = Outcome()
        sending = self.engine.execute(command, command_id=command_id, expected_version=expected)
        self.runner.run(outcome.follow(sending))
        assert (outcome.kind if outcome.error else outcome.value) == wanted
        type(self).agreed += 1

    @rule(commands=st.lists(st.tuples(SENT, st.sampled_from("12345")), min_size=1, max_size=5))
    def send_many(self, commands: list[tuple[Command, str]]) -> None:
        sending = self.engine.execute_many([command for command, _ in commands], command_ids=[i for _, i in commands])
        before = self.model.commit
        for (command, command_id), outcome in zip(commands, self.runner.run(sending), strict=True):
            heard: Receipt | str = outcome if isinstance(outcome, Receipt) else type(outcome).__name__
            commit = 0
            if isinstance(heard, Receipt) and not heard.repeated:  # how they share commits is not promised
                commit = heard.commit
                assert max(self.model.commit, before + 1) <= commit <= self.model.commit + 1
            assert heard == self.model.outcome(Sent(command, command_id), commit)

    @rule(snapshots=st.booleans())
    def restart(self, snapshots: bool) -> None:
        self.close()
        self.open(snapshots)

    @rule(snapshots=st.booleans())
    def crash(self, snapshots: bool) -> None:
        self.place.crash()
        self.close()
        self.open(snapshots)

    @invariant()
    def agrees(self) -> None:
        state = write_state(self.engine)
        assert state is not None
        assert state.index.versions == {key: count for key, count in self.model.versions.items() if count}
        assert [receipt for _, receipt in state.index.receipts] == [each for _, each in self.model.receipts.values()]
        assert self.engine.position == self.model.position

    def teardown(self) -> None:
        self.close()
        self.runner.close()


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_whatever_is_sent_and_however_often_it_restarts_outcomes_are_those_of_the_model(
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    class OnThatLoop(Histories):
        pass

    OnThatLoop.loop_factory = staticmethod(loop_factory)
    few = settings(max_examples=25, stateful_step_count=20)
    run_state_machine_as_test(OnThatLoop, settings=few)
    assert OnThatLoop.agreed > 0

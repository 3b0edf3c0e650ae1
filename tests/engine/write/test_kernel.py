"""The kernel: the same commands on the same state give the same rows, and it needs nobody who waits, and no clock."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from millstream.engine import Command, Limits, MillstreamError, Receipt
from millstream.engine.application.options import Terms
from millstream.engine.commits.body import body_reader
from millstream.engine.commits.commit import Head, seal
from millstream.engine.commits.decoded import DecodedCommit
from millstream.engine.write.kernel import decide
from millstream.engine.write.parts import WriteParts
from millstream.engine.write.rows import Rows
from millstream.engine.write.state import WriteState
from tests.shop import Add, Move, Note, Nothing, Take, shop

NOW = datetime(2026, 1, 1, tzinfo=UTC)
COMMANDS = st.one_of(
    st.builds(Add, st.sampled_from("ab"), st.integers(1, 9)),
    st.builds(Take, st.sampled_from("ab"), st.integers(1, 9)),
    st.builds(Move, st.sampled_from("ab"), st.sampled_from("ab")),
    st.builds(Nothing, st.sampled_from("ab")),
    st.builds(Note, st.just("no key")),
)
TERMS = st.one_of(
    st.none(),
    st.builds(Terms, command_id=st.sampled_from(["1", "2"]), payload=st.sampled_from(["aa", "bb"])),
    st.builds(Terms, expected_version=st.integers(0, 2)),
)
LIMITS = Limits()


def envelopes(commands: list[tuple[Command, Terms | None]]) -> list[tuple[object, Command, Terms | None]]:
    return [("nobody", *each) for each in commands]


def shown(rows: Rows) -> Any:
    outcomes = [each if isinstance(each, Receipt) else (type(each), str(each)) for each in rows.outcomes]
    return rows.body(shop), rows.events, outcomes, rows.position


@given(st.lists(st.tuples(COMMANDS, TERMS), max_size=12))
def test_rows_follow_from_commands_and_state_alone(commands: list[tuple[Command, Terms | None]]) -> None:
    once, again = Rows(Head(), NOW), Rows(Head(), NOW)
    one, other = WriteState.new(shop, 100), WriteState.new(shop, 100)
    decide(envelopes(commands), one, once, LIMITS)
    for command in commands:  # in as many batches as there are commands: where a batch ends makes no difference
        decide(envelopes([command]), other, again, LIMITS)
    assert shown(once) == shown(again)
    assert len(once.outcomes) == len(commands)
    assert once.refused == sum(isinstance(each, MillstreamError) for each in once.outcomes)


@given(st.lists(st.tuples(COMMANDS, TERMS), max_size=12))
def test_what_the_kernel_leaves_is_what_a_replay_of_its_records_makes(
    commands: list[tuple[Command, Terms | None]],
) -> None:
    rows, live = Rows(Head(), NOW), WriteState.new(shop, 100)
    decide(envelopes(commands), live, rows, LIMITS)
    if not rows.accepted:
        return
    commit = seal(Head(), "", rows.body(shop))
    stored = body_reader(shop.stored)(commit.body)
    events = stored.events
    replayed = WriteParts(shop, Limits(receipts_max=100))
    for part in replayed.all:
        list(part.steps(DecodedCommit.of(commit, len(events), events, stored)))
        assert part.head == Head.after(commit, len(events))
    assert [part.state for part in replayed.models] == live.models
    assert (replayed.index.versions, replayed.index.receipts) == (live.index.versions, live.index.receipts)
    assert msgspec.json.encode(rows.events) == msgspec.json.encode(events)

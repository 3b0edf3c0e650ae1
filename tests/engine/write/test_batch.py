from __future__ import annotations

from collections import deque
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any

import msgspec
import pytest

from millstream.bench.proofs.bodies import commands_in
from millstream.engine import (
    ApplyFailed,
    Command,
    CommitTooLarge,
    Context,
    DeadlineExceeded,
    HandlerFailed,
    ImpureHandler,
    InvalidMessage,
    Limits,
    Metadata,
    MillstreamError,
    Receipt,
    Rejected,
    UnknownMessage,
)
from millstream.engine.application.options import Deadline, Terms
from millstream.engine.commits.commit import Head
from millstream.engine.loop.clock import elapsed
from millstream.engine.write import batch as batch_module
from millstream.engine.write.batch import Draft, fill
from millstream.engine.write.envelope import Envelope
from millstream.engine.write.state import WriteState
from tests.shop import Add, Added, Book, Break, Move, Note, Noted, Nothing, Stock, Take, Taken, shop
from tests.support import Kept

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def queue_of(*commands: Command) -> deque[Envelope]:
    return deque((Kept(), command, None) for command in commands)


def decided(*commands: Command, limits: Limits | None = None, **options: Any) -> tuple[Draft, WriteState]:
    draft, state = Draft(Head(3, 10), NOW), WriteState.new(shop, 1_000, check_purity=options.pop("check_purity", False))
    fill(draft, queue_of(*commands), state, limits or Limits(slice_ms_max=60_000), **options)
    return draft, state


def stock_in(state: WriteState) -> dict[str, int]:
    stock = state.models[0]
    assert isinstance(stock, Stock)
    return stock.stock


def receipts(draft: Draft) -> list[Receipt]:
    return [outcome for outcome in draft.outcomes if isinstance(outcome, Receipt)]


def refusals(draft: Draft) -> list[MillstreamError]:
    return [outcome for outcome in draft.outcomes if isinstance(outcome, MillstreamError)]


def errors(draft: Draft) -> list[type]:
    assert draft.refused == len(refusals(draft))
    return [type(error) for error in refusals(draft)]


def test_each_command_is_decided_on_the_state_that_the_one_before_left() -> None:
    draft, state = decided(Add("a", 3), Take("a", 2), Take("a", 2), Take("a", 1))
    assert draft.events == [Added("a", 3), Taken("a", 2), Taken("a", 1)]
    assert receipts(draft) == [Receipt(4, 11, 1, version=1), Receipt(4, 12, 1, version=2), Receipt(4, 13, 1, version=3)]
    assert errors(draft) == [Rejected]
    assert stock_in(state) == {"a": 0}


def test_a_rejected_command_leaves_its_batch_untouched() -> None:
    with_it, _ = decided(Add("a", 3), Take("b", 1), Take("a", 1))
    without_it, _ = decided(Add("a", 3), Take("a", 1))
    assert (with_it.events, with_it.body(shop)) == (without_it.events, without_it.body(shop))


def test_a_command_that_yields_nothing_writes_nothing_and_its_receipt_names_what_it_was_decided_on() -> None:
    first, _ = decided(Nothing("a"), Take("a", 1), Move("b", "c"))
    assert receipts(first) == [Receipt(3, 10, 0, version=0), Receipt(3, 10, 0, version=0)], "the commit before"
    assert (first.accepted, commands_in(first.body(shop))) == (0, [])
    draft, _ = decided(Add("a", 3), Nothing("a"), Move("b", "c"))
    assert receipts(draft) == [Receipt(4, 11, 1, version=1), Receipt(4, 11, 0, version=1), Receipt(4, 11, 0, version=0)]
    assert [command["type"] for command in commands_in(draft.body(shop))] == ["Add"]


def test_a_command_that_yields_nothing_under_an_id_is_written_as_its_receipt_is_to_be_found_again() -> None:
    draft, state = Draft(Head(3, 10), NOW), WriteState.new(shop, 1_000)
    queue: deque[Envelope] = deque([(Kept(), Nothing("a"), Terms("n-1", "digest"))])
    fill(draft, queue, state, Limits())
    assert receipts(draft) == [Receipt(4, 10, 0, "n-1", 0)]
    assert [command["type"] for command in commands_in(draft.body(shop))] == ["Nothing"]


def test_an_event_belongs_to_its_own_key() -> None:
    draft, _ = decided(Add("a", 3), Move("a", "b"), Note("no key"))
    assert [(r.get("key"), r.get("keys"), r.get("offset", 0)) for r in commands_in(draft.body(shop))] == [
        ("a", None, 0),
        ("a", ["a", "b"], 1),
        (None, None, 3),
    ]


def test_a_handler_that_asks_gets_time_id_and_metadata_and_the_record_keeps_them() -> None:
    draft, state = Draft(Head(), NOW), WriteState.new(shop, 1_000)
    metadata = Metadata(actor="ann", correlation="c", causation="d")
    fill(draft, deque([(Kept(), Note("hi"), Terms("id-1", "aa", None, metadata))]), state, Limits())
    assert draft.events == [Noted("hi", "ann", "2026-01-01T00:00:00+00:00", "id-1")]
    assert commands_in(draft.body(shop)) == [
        {
            "type": "Note",
            "id": "id-1",
            "payload": "aa",
            "actor": "ann",
            "correlation": "c",
            "causation": "d",
            "events": [{"type": "Noted", "text": "hi", "by": "ann", "at": "2026-01-01T00:00:00+00:00", "id": "id-1"}],
        }
    ]
    assert receipts(draft) == [Receipt(1, 1, 1, "id-1")]


def test_an_event_goes_to_every_model_that_applies_it() -> None:
    _, state = decided(Add("a", 3), Add("b", 1))
    book = state.models[1]
    assert isinstance(book, Book)
    assert (stock_in(state), book.adds) == ({"a": 3, "b": 1}, 2)


@pytest.mark.parametrize(
    ("how", "error", "text", "cause"),
    [
        ("raise", HandlerFailed, "Book.broken failed on Break: KeyError('a bug'); nothing changed", KeyError),
        ("wrong type", HandlerFailed, "yielded a wrong event: Broken is not valid: Expected `str`", InvalidMessage),
        ("stray", HandlerFailed, "yielded a wrong event: application 'shop' has no event 'Stray'", UnknownMessage),
        ("large", CommitTooLarge, "of a commit, which holds at most commit_bytes_max=4,194,304", None),
    ],
)
def test_a_handler_that_fails_refuses_its_command_alone(how: str, error: type, text: str, cause: type | None) -> None:
    draft, _ = decided(Add("a", 1), Break(how), Add("a", 2))
    (refusal,) = refusals(draft)
    assert isinstance(refusal, Exception)
    assert type(refusal) is error
    assert text in str(refusal)
    assert cause is None or type(refusal.__cause__) is cause
    assert draft.events == [Added("a", 1), Added("a", 2)]
    assert not draft.is_damaged


def test_a_failing_apply_closes_the_draft_before_its_command() -> None:
    queue = queue_of(Add("a", 1), Break("apply"), Add("a", 2))
    draft, state = Draft(Head(), NOW), WriteState.new(shop, 1_000)
    fill(draft, queue, state, Limits())
    assert draft.is_damaged
    assert draft.is_full(Limits())
    assert draft.events == [Added("a", 1)]
    assert errors(draft) == [ApplyFailed]
    assert "Book.apply_broken can't apply Broken at position 2: ValueError" in str(refusals(draft)[0])
    assert [envelope[1] for envelope in queue] == [Add("a", 2)]


def test_a_handler_that_changes_the_state_is_found_when_purity_is_checked() -> None:
    draft, _ = decided(Add("a", 1), Break("mutate"), Add("a", 2), check_purity=True)
    assert errors(draft) == [ImpureHandler]
    assert draft.is_damaged
    unchecked, _ = decided(Break("mutate"))
    assert errors(unchecked) == []


def test_a_cancelled_command_never_executes() -> None:
    queue: deque[Envelope] = deque([(Kept(done=True), Add("a", 1), None), *queue_of(Add("a", 2))])
    draft, state = Draft(Head(), NOW), WriteState.new(shop, 1_000)
    fill(draft, queue, state, Limits(slice_ms_max=60_000))
    assert draft.events == [Added("a", 2)]


def test_an_expired_command_never_executes_even_if_its_timer_is_late() -> None:
    promise = Kept()
    draft, state = Draft(Head(), NOW), WriteState.new(shop, 1_000)
    fill(draft, deque([(promise, Add("a", 1), Terms(deadline=Deadline(elapsed() - 1.0, 0.5)))]), state, Limits())
    assert isinstance(promise.given, DeadlineExceeded)
    assert not promise.given.decided
    assert draft.events == []


def test_a_batch_closes_at_its_limit_of_commands() -> None:
    draft, _ = decided(*[Add("a", 1)] * 5, limits=Limits(batch_commands_max=3, slice_ms_max=60_000))
    assert len(draft.outcomes) == 3
    assert draft.is_full(Limits(batch_commands_max=3))


def test_a_batch_closes_at_its_limit_of_bytes() -> None:
    one = len(msgspec.json.encode([Added("a", 1)]))
    limits = Limits(batch_bytes_max=one * 2, slice_ms_max=60_000)
    draft, _ = decided(*[Add("a", 1)] * 5, limits=limits)
    assert len(draft.outcomes) == 2
    assert draft.is_full(limits)


def test_deciding_stops_when_its_slice_is_over_and_goes_on_where_it_stopped() -> None:
    queue, draft, state = queue_of(*[Add("a", 1)] * 100), Draft(Head(), NOW), WriteState.new(shop, 1_000)
    limits = Limits(slice_ms_max=1e-9)
    fill(draft, queue, state, limits)
    assert 0 < len(draft.outcomes) < 100
    while queue:
        fill(draft, queue, state, limits)
    assert stock_in(state) == {"a": 100}


def test_what_is_applied_is_what_a_replay_will_read() -> None:
    class Size(IntEnum):
        BIG = 3

    _, state = decided(Add("a", Size.BIG))
    assert type(stock_in(state)["a"]) is int


def test_deciding_alone_changes_nothing() -> None:
    state = WriteState.new(shop, 1_000)
    assert state.decide(Add("a", 1), Context(NOW)) == [Added("a", 1)]
    with pytest.raises(Rejected, match="not 1 of a"):
        state.decide(Take("a", 1), Context(NOW))
    with pytest.raises(HandlerFailed):
        state.decide(Break("raise"), Context(NOW))
    assert stock_in(state) == {}


def test_a_command_whose_handler_is_interrupted_stays_in_the_queue() -> None:
    queue, draft, state = queue_of(Add("a", 1)), Draft(Head(), NOW), WriteState.new(shop, 1_000)

    def interrupted(_: object) -> list[Any]:
        raise KeyboardInterrupt

    state.handlers[Add] = (interrupted, False, "Add", lambda _: None, False, None)
    with pytest.raises(KeyboardInterrupt):
        fill(draft, queue, state, Limits())
    assert len(queue) == 1


def test_a_command_that_expires_behind_slow_ones_of_its_batch_never_executes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(batch_module, "elapsed", lambda: now[0])
    state, late, on_time = WriteState.new(shop, 1_000), Kept(), Kept()
    handler, *rest = state.handlers[Add]

    def slow(command: Add) -> Any:
        now[0] += 0.03
        return handler(command)

    state.handlers[Add] = (slow, *rest)  # type: ignore[assignment]
    queue = queue_of(*[Add("a", 1)] * 5)
    queue.append((late, Add("a", 100), Terms(deadline=Deadline(0.1, 0.1))))
    queue.append((on_time, Add("a", 10), Terms(deadline=Deadline(1.0, 1.0))))
    queue += queue_of(Add("a", 1))
    draft = Draft(Head(), NOW)
    fill(draft, queue, state, Limits(slice_ms_max=60_000))
    assert isinstance(late.given, DeadlineExceeded)
    assert not late.given.decided
    assert (stock_in(state), len(draft.outcomes), len(queue)) == ({"a": 16}, 7, 0)

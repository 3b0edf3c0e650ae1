"""What everybody promises through whom an application is used, as a suite: whether it runs here or elsewhere.

A test file says how its gateway is made. What is expected is written out, errors with all that they hold and say.
"""

from __future__ import annotations

import asyncio
import math
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple

import anyio
import anyio.lowlevel
import pytest

from millstream.bench.proofs.bodies import commands_in
from millstream.engine import App, Engine, Limits, Metadata, MillstreamError, Receipt
from millstream.engine.application.messages import Answered
from millstream.engine.errors import (
    AnswerFailed,
    ApplyFailed,
    CommandIdReused,
    CommitFailed,
    CommitTooLarge,
    DeadlineExceeded,
    EngineClosed,
    HandlerFailed,
    InvalidMessage,
    NotYetVisible,
    Overloaded,
    Rejected,
    UnknownMessage,
    VersionConflict,
    ViewFaulted,
    ViewIncomplete,
    WatchesFull,
)
from millstream.engine.gateway import Gateway
from tests.desk import Counted, Put, Seen, desk
from tests.shop import Add, Break, Broke, Everything, Move, Note, Notes, Nothing, StockOf, Take, shop
from tests.support import Outcome, ScriptedLog, start
from tests.views.table_rows import Free, Place, Sell
from tests.views.table_rows import app as table

__all__ = ["GatewayConformance", "Running"]

#: One command is being written, one is decided, one waits; there is no room for a fourth.
NARROW = Limits(mailbox_commands_max=1, batch_commands_max=1)


class Running(NamedTuple):
    """A gateway, the engine that it leads to in the end, and its log."""

    gateway: Gateway
    engine: Engine
    log: ScriptedLog


class Stranger(Add):
    """A command that no application knows."""


class Riddle(StockOf):
    """A query that no application knows."""


async def until(condition: Callable[[], object]) -> None:
    """Wait for what is sure to come, over however many sockets."""
    with anyio.fail_after(10):
        while not condition():
            await anyio.lowlevel.checkpoint()


async def error_of(awaitable: Any) -> MillstreamError:
    with pytest.raises(MillstreamError) as raised:
        await awaitable
    return raised.value


async def taken(answers: AsyncIterator[Answered[Any]]) -> tuple[Any, int]:
    with anyio.fail_after(10):
        answered = await anext(answers)
    return answered.answer, answered.position


class GatewayConformance(ABC):
    """Every promise of `millstream.engine.gateway.Gateway`."""

    #: Whether questions are answered in the writer's process, which knows where its log ends.
    knows_head = True

    @abstractmethod
    def running(self, app: App = shop, limits: Limits | None = None) -> AbstractAsyncContextManager[Running]:
        """The application, running, on a log of its own."""

    # Commands.

    async def test_a_command_returns_a_receipt_which_makes_its_effect_visible(self) -> None:
        async with self.running() as (gateway, _, _):
            receipt = await gateway.execute(Add("apple", 3))
            assert receipt == Receipt(commit=1, position=1, events=1, version=1)
            assert await gateway.ask(StockOf("apple"), after=receipt) == 3
            receipt = await gateway.execute(Move("apple", "pear"))
            assert receipt == Receipt(commit=2, position=3, events=2, version=2)
            assert await gateway.ask(Everything(), after=receipt) == {"apple": 0, "pear": 3}

    async def test_a_command_with_an_id_happens_once(self) -> None:
        async with self.running() as (gateway, engine, _):
            first = await gateway.execute(Add("apple", 3), command_id="pay-ä-7")
            again = await gateway.execute(Add("apple", 3), command_id="pay-ä-7")
            assert first == Receipt(commit=1, position=1, events=1, command_id="pay-ä-7", version=1)
            assert again == Receipt(commit=1, position=1, events=1, command_id="pay-ä-7", version=1, repeated=True)
            assert engine.position == 1
            error = await error_of(gateway.execute(Add("apple", 4), command_id="pay-ä-7"))
            assert isinstance(error, CommandIdReused)
            assert (error.command_id, error.command, error.commit) == ("pay-ä-7", "Add", 1)

    async def test_a_command_is_executed_at_the_version_that_is_expected_and_at_no_other(self) -> None:
        async with self.running() as (gateway, _, _):
            assert (await gateway.execute(Add("apple", 1), expected_version=0)).version == 1
            assert (await gateway.execute(Add("apple", 1), expected_version=1)).version == 2
            error = await error_of(gateway.execute(Add("apple", 1), expected_version=1))
            assert isinstance(error, VersionConflict)
            assert (error.key, error.expected, error.actual) == ("apple", 1, 2)
            assert (await gateway.execute(Nothing("apple"), expected_version=2)).events == 0

    async def test_metadata_reaches_the_handler(self) -> None:
        async with self.running() as (gateway, _, log):
            metadata = Metadata(
                actor="ann",
                correlation="c-1",
                causation="é",
                trace="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                extra={"tenant": "t-1", "ü": ""},
            )
            await gateway.execute(Note("hello"), metadata=metadata, command_id="n-1")
            assert b'"by":"ann"' in log.commits[0].body
            (command,) = commands_in(log.commits[0].body)
            assert {name: command[name] for name in ("actor", "correlation", "causation", "trace", "extra")} == {
                "actor": "ann",
                "correlation": "c-1",
                "causation": "é",
                "trace": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                "extra": {"tenant": "t-1", "ü": ""},
            }

    async def test_a_rejection_comes_as_the_handler_made_it(self) -> None:
        async with self.running() as (gateway, engine, _):
            await gateway.execute(Add("apple", 3))
            error = await error_of(gateway.execute(Take("apple", 5)))
            assert isinstance(error, Rejected)
            assert (error.code, error.message, error.details) == ("out_of_stock", "not 5 of apple", {"left": 3})
            assert str(error) == "out_of_stock: not 5 of apple"
            assert engine.position == 1

    @pytest.mark.parametrize(
        ("command", "text"),
        [
            (Add("apple", 0), "Add is not valid: Expected `int` >= 1 - at `$.count`"),
            (Add("apple", "3"), "Add is not valid: Expected `int`, got `str` - at `$.count`"),  # type: ignore[arg-type]
            (Add("", 1), "Add is not valid: Expected `str` of length >= 1 - at `$.item`"),
            (Note(float("nan")), "Note is not valid: Expected `str`, got `null` - at `$.text`"),  # type: ignore[arg-type]
            (Note(object()), "Note is not valid: Encoding objects of type object is unsupported"),  # type: ignore[arg-type]
        ],
    )
    async def test_a_command_that_is_not_what_its_class_declares_is_refused(self, command: Any, text: str) -> None:
        async with self.running() as (gateway, engine, _):
            error = await error_of(gateway.execute(command))
            assert isinstance(error, InvalidMessage)
            assert (error.message_type, str(error)) == (type(command).__name__, text)
            assert engine.position == 0

    @pytest.mark.parametrize(
        ("options", "text"),
        [
            ({"command_id": ""}, "command_id is not valid: a string of 1 to 200 characters, not ''"),
            ({"command_id": 7}, "command_id is not valid: a string of 1 to 200 characters, not 7"),
            ({"command_id": "\ud800"}, "command_id is not valid: characters that UTF-8 has, not '\\ud800'"),
            ({"expected_version": -1}, "expected_version is not valid: a whole number from 0 on, not -1"),
            ({"expected_version": True}, "expected_version is not valid: a whole number from 0 on, not True"),
            ({"metadata": {"actor": "ann"}}, "metadata is not valid: a Metadata, not {'actor': 'ann'}"),
            ({"metadata": Metadata(actor=5)}, "metadata is not valid: Expected `str | null`, got `int` - at `$.actor`"),  # type: ignore[arg-type]
        ],
    )
    async def test_terms_that_are_not_what_they_should_be_are_refused(self, options: Any, text: str) -> None:
        async with self.running() as (gateway, engine, _):
            error = await error_of(gateway.execute(Add("apple", 1), **options))
            assert isinstance(error, InvalidMessage)
            assert str(error) == text
            assert engine.position == 0

    async def test_a_version_is_expected_of_what_has_one(self) -> None:
        async with self.running() as (gateway, _, _):
            error = await error_of(gateway.execute(Note("x"), expected_version=1))
            assert isinstance(error, InvalidMessage)
            assert str(error) == "expected_version is not valid: Note has no Key field to have a version"

    async def test_a_message_that_the_application_does_not_have_is_named_beside_those_that_it_has(self) -> None:
        async with self.running() as (gateway, _, _):
            error = await error_of(gateway.execute(Stranger("apple", 1)))
            assert isinstance(error, UnknownMessage)
            assert (error.kind, error.message_type, error.app) == ("command", "Stranger", "shop")
            assert error.known == ("Add", "Take", "Move", "Nothing", "Note", "Break")
            error = await error_of(gateway.execute(StockOf("apple")))  # type: ignore[arg-type]
            assert isinstance(error, UnknownMessage)
            assert (error.kind, error.message_type) == ("command", "StockOf")
            error = await error_of(gateway.ask(Riddle("apple")))
            assert isinstance(error, UnknownMessage)
            assert (error.kind, error.message_type, error.app) == ("query", "Riddle", "shop")
            assert error.known == ("StockOf", "Everything", "Notes", "Broke")
            error = await error_of(gateway.ask(Add("apple", 1)))  # type: ignore[arg-type]
            assert isinstance(error, UnknownMessage)
            assert (error.kind, error.message_type) == ("query", "Add")

    async def test_an_application_that_fails_says_where(self) -> None:
        async with self.running() as (gateway, _, _):
            failed = await error_of(gateway.execute(Break("raise")))
            assert isinstance(failed, HandlerFailed)
            assert (failed.handler, failed.command, failed.problem) == (
                "tests.shop.Book.broken",
                "Break",
                "KeyError('a bug')",
            )
            applied = await error_of(gateway.execute(Break("apply")))
            assert isinstance(applied, ApplyFailed)
            assert (applied.model, applied.event, applied.position) == ("tests.shop.Book.apply_broken", "Broken", 1)
            assert applied.problem == 'ValueError("can\'t apply")'
            large = await error_of(gateway.execute(Break("large")))
            assert isinstance(large, CommitTooLarge)
            assert (large.command, large.commit_bytes_max) == ("Break", 4 * 1024 * 1024)
            assert (await gateway.execute(Add("apple", 1))).position == 1

    async def test_a_store_that_fails_says_what_became_of_the_command(self) -> None:
        async with self.running() as (gateway, _, log):
            log.steps.append("refused")
            error = await error_of(gateway.execute(Add("apple", 1)))
            assert isinstance(error, CommitFailed)
            assert (error.commit, error.problem) == (1, "the script refused it")
            assert (await gateway.execute(Add("apple", 1))).position == 1

    async def test_a_full_mailbox_refuses_those_who_will_not_wait_and_lets_the_others_in_later(self) -> None:
        async with self.running(limits=NARROW) as (gateway, engine, log), anyio.create_task_group() as group:
            log.hold()
            started = await self.fill(group, gateway, engine, log)
            error = await error_of(gateway.execute(Add("apple", 1), wait=False))
            assert isinstance(error, Overloaded)
            assert (error.waiting, error.mailbox_commands_max) == (1, 1)
            waits = start(group, gateway.execute(Add("apple", 1)))
            log.release()
            await until(lambda: waits.settled and all(each.settled for each in started))
            assert [outcome.value.position for outcome in (*started, waits)] == [1, 2, 3, 4]

    async def test_a_timeout_says_whether_the_command_stands(self) -> None:
        async with self.running(limits=NARROW) as (gateway, engine, log), anyio.create_task_group() as group:
            log.hold()
            decided = start(group, gateway.execute(Add("apple", 1), timeout=0.5))
            await until(lambda: log.appends_started)
            second = start(group, gateway.execute(Add("apple", 1)))
            await until(lambda: engine.stats().writer.mailbox_commands == 0 and engine.admission.mailbox.taken_out == 2)
            waits = start(group, gateway.execute(Add("apple", 7), timeout=0.05))
            await until(lambda: waits.settled)
            assert isinstance(waits.error, DeadlineExceeded)
            assert (waits.error.command, waits.error.timeout_seconds, waits.error.decided) == ("Add", 0.05, False)
            await until(lambda: decided.settled)
            assert isinstance(decided.error, DeadlineExceeded)
            assert (decided.error.command, decided.error.timeout_seconds, decided.error.decided) == ("Add", 0.5, True)
            log.release()
            await until(lambda: second.settled)
            assert await gateway.ask(StockOf("apple"), after=second.value) == 2

    async def test_no_time_at_all_is_too_little(self) -> None:
        async with self.running() as (gateway, engine, _):
            error = await error_of(gateway.execute(Add("apple", 1), timeout=0))
            assert isinstance(error, DeadlineExceeded)
            assert (error.timeout_seconds, error.decided) == (0, False)
            assert await gateway.execute(Add("apple", 1), timeout=1e12) == Receipt(1, 1, 1, version=1)
            assert engine.position == 1

    async def fill(self, group: Any, gateway: Gateway, engine: Engine, log: ScriptedLog) -> list[Outcome]:
        """Have one command written, one decided, and one wait."""
        started = [start(group, gateway.execute(Add("apple", 1)))]
        await until(lambda: log.appends_started)
        mailbox = engine.admission.mailbox
        started.append(start(group, gateway.execute(Add("apple", 1))))
        await until(lambda: mailbox.taken_out == 2)
        started.append(start(group, gateway.execute(Add("apple", 1))))
        await until(lambda: mailbox.queue)
        return started

    # Many commands.

    async def test_many_commands_have_one_outcome_each_in_their_order(self) -> None:
        async with self.running() as (gateway, _, _):
            commands = [Add("a", 1), Take("a", 5), Add("a", 0), Stranger("a", 1), Add("b", 2)]
            outcomes = await gateway.execute_many(commands)
            assert [type(outcome) for outcome in outcomes] == [
                Receipt,
                Rejected,
                InvalidMessage,
                UnknownMessage,
                Receipt,
            ]
            assert [each.position for each in outcomes if isinstance(each, Receipt)] == [1, 2]
            assert str(outcomes[1]) == "out_of_stock: not 5 of a"
            assert await gateway.execute_many([]) == []

    async def test_many_commands_may_be_more_than_fit_anywhere_at_once(self) -> None:
        limits = Limits(mailbox_commands_max=50)
        async with self.running(limits=limits) as (gateway, _, _):
            outcomes = await gateway.execute_many(Add(f"item {n % 7}", 1) for n in range(3_000))
            positions = [outcome.position for outcome in outcomes if isinstance(outcome, Receipt)]
            assert positions == list(range(1, 3_001))
            stock = await gateway.ask(Everything(), after=3_000)
            assert stock == {f"item {n}": 429 if n < 4 else 428 for n in range(7)}

    async def test_many_commands_with_ids_happen_once(self) -> None:
        async with self.running() as (gateway, engine, _):
            commands, ids = [Add("a", 1), Add("b", 1)], ["one", "two"]
            await gateway.execute(Add("a", 1), command_id="one", metadata=Metadata(actor="ann"))
            outcomes = await gateway.execute_many(commands, command_ids=iter(ids), metadata=Metadata(actor="ann"))
            assert outcomes == [
                Receipt(1, 1, 1, command_id="one", version=1, repeated=True),
                Receipt(2, 2, 1, command_id="two", version=1),
            ]
            assert engine.position == 2

    @pytest.mark.parametrize(
        ("options", "text"),
        [
            ({"command_ids": ["one"]}, "command_ids is not valid: one for each of 2 commands, not 1"),
            ({"command_ids": "ab"}, "command_ids is not valid: an id for each command, not one string 'ab'"),
            (
                {"command_ids": ["a", None]},
                "command_ids is not valid: one for each of 2 commands, not None at index 1",
            ),
            ({"metadata": "ann"}, "metadata is not valid: a Metadata, not 'ann'"),
            ({"timeout": math.nan}, "timeout is not valid: a number of seconds, not nan"),
            ({"timeout": "1"}, "timeout is not valid: a number of seconds, not '1'"),
            ({"timeout": True}, "timeout is not valid: a number of seconds, not True"),
        ],
    )
    async def test_what_is_wrong_with_all_of_many_commands_is_raised(self, options: Any, text: str) -> None:
        async with self.running() as (gateway, engine, _):
            error = await error_of(gateway.execute_many([Add("a", 1), Add("b", 1)], **options))
            assert isinstance(error, InvalidMessage)
            assert str(error) == text
            assert engine.position == 0

    @pytest.mark.parametrize("timeout", [math.nan, "1"])
    async def test_a_timeout_that_is_no_number_is_named_and_nothing_is_done(self, timeout: Any) -> None:
        async with self.running() as (gateway, engine, _):
            for call in (
                gateway.execute(Add("a", 1), timeout=timeout),
                gateway.ask(StockOf("a"), after=1, timeout=timeout),
            ):
                error = await error_of(call)
                assert isinstance(error, InvalidMessage)
                assert str(error) == f"timeout is not valid: a number of seconds, not {timeout!r}"
            assert engine.position == 0

    async def test_many_commands_share_one_timeout_and_each_says_whether_it_stands(self) -> None:
        async with self.running(limits=NARROW) as (gateway, _, log):
            log.hold()
            outcomes = await gateway.execute_many([Add("a", 1)] * 4, timeout=0.5)
            assert all(isinstance(outcome, DeadlineExceeded) for outcome in outcomes)
            decided = [outcome.decided for outcome in outcomes if isinstance(outcome, DeadlineExceeded)]
            assert decided == [True, True, False, False]
            assert {str(outcome) for outcome in outcomes[2:]} == {
                "Add still waited after 0.5 s and was not executed; it is safe to retry"
            }
            log.release()
            receipt = await gateway.execute(Add("a", 1))
            assert receipt.position == 3

    # Questions.

    async def test_an_answer_has_its_position_and_is_a_token(self) -> None:
        async with self.running() as (gateway, _, _):
            receipt = await gateway.execute(Add("apple", 3))
            answered = await gateway.answer(StockOf("apple"), after=receipt)
            assert answered == Answered(3, 1)
            later = await gateway.execute(Add("apple", 1))
            assert await gateway.answer(StockOf("apple"), after=later) == Answered(4, 2)
            assert (await gateway.answer(StockOf("pear"), after=answered)).answer == 0
            assert await gateway.ask(StockOf("apple"), after=2) == 4
            assert await gateway.ask(Broke("x"), after=-5) == "x 0"

    async def test_several_answers_are_true_at_one_position_which_is_a_token(self) -> None:
        async with self.running() as (gateway, _, _):
            await gateway.execute(Add("apple", 3))
            receipt = await gateway.execute(Note("hello"))
            stock, notes, everything = await gateway.ask_all(StockOf("apple"), Notes(), Everything(), after=receipt)
            assert (stock + 1, notes, everything) == (4, ("hello",), {"apple": 3})
            answered = await gateway.answer_all([Notes(), StockOf("apple")], timeout=5)
            assert answered == Answered((("hello",), 3), 2)
            assert await gateway.ask_all(*[StockOf("apple")] * 7, after=answered) == (3,) * 7
            assert await gateway.answer_all([], after=answered) == Answered((), 2)

    async def test_what_is_wrong_with_one_of_several_questions_is_said(self) -> None:
        async with self.running() as (gateway, _, _):
            error = await error_of(gateway.ask_all(StockOf("apple"), Riddle("apple")))
            assert isinstance(error, UnknownMessage)
            assert (error.kind, error.message_type) == ("query", "Riddle")
            invalid = await error_of(gateway.ask_all(StockOf("apple"), Notes(), timeout=math.nan))
            assert isinstance(invalid, InvalidMessage)
            late = await error_of(gateway.ask_all(StockOf("apple"), Notes(), after=7, timeout=0.2))
            assert isinstance(late, InvalidMessage if self.knows_head else NotYetVisible)

    async def test_an_answer_is_of_the_type_that_its_query_promises(self) -> None:
        async with self.running() as (gateway, _, _):
            receipt = await gateway.execute(Note("hello"))
            assert await gateway.ask(Notes(), after=receipt) == ("hello",)

    async def test_an_answer_that_does_not_come_in_time_says_how_far_the_view_is(self) -> None:
        async with self.running() as (gateway, engine, log), anyio.create_task_group() as group:
            receipt = await gateway.execute(Add("apple", 3))
            await gateway.ask(StockOf("apple"), after=receipt)
            log.hold()
            start(group, engine.execute(Add("apple", 3)))
            await until(lambda: log.appends_started == 2)
            error = await error_of(gateway.ask(StockOf("apple"), after=2, timeout=0.3))
            assert isinstance(error, NotYetVisible)
            assert (error.view, error.position, error.after, error.timeout_seconds) == ("Shelf", 1, 2, 0.3)
            log.release()

    async def test_a_position_above_the_head_is_refused_by_who_knows_the_head(self) -> None:
        async with self.running() as (gateway, _, _):
            receipt = await gateway.execute(Add("apple", 3))
            await gateway.ask(StockOf("apple"), after=receipt)
            error = await error_of(gateway.answer(StockOf("apple"), after=10**9, timeout=0.3))
            if self.knows_head:
                problem = "position 1,000,000,000 is above the head of the log, which is at 1"
                assert isinstance(error, InvalidMessage)
                assert str(error) == (
                    f"after is not valid: {problem}: give a receipt or an answer of this log, as it is now"
                )
            else:
                assert isinstance(error, NotYetVisible)
                assert (error.position, error.after) == (1, 10**9)

    async def test_a_position_that_no_log_can_have_is_refused_by_all(self) -> None:
        async with self.running() as (gateway, _, _):
            text = "after is not valid: no log comes to a position above 9,223,372,036,854,775,807"
            for asking in (gateway.ask(StockOf("a"), after=2**63), gateway.answer(StockOf("a"), after=2**63)):
                error = await error_of(asking)
                assert (type(error), str(error)) == (InvalidMessage, text)
            with pytest.raises(InvalidMessage, match="no log comes to a position above"):
                async with gateway.watch(StockOf("a"), after=2**63):
                    pass
            assert await gateway.ask(StockOf("a")) == 0

    async def test_a_view_that_fails_says_how(self) -> None:
        async with self.running() as (gateway, _, _):
            failed = await error_of(gateway.ask(Broke("raise")))
            assert isinstance(failed, AnswerFailed)
            assert (failed.view, failed.query) == ("Fragile", "Broke")
            assert failed.problem == "ZeroDivisionError('while answering')"
            refused = await error_of(gateway.ask(Broke("reject")))
            assert isinstance(refused, Rejected)
            assert (refused.code, refused.message, refused.details) == ("no_such_thing", "", {})
            receipt = await gateway.execute(Break("view"))
            faulted = await error_of(gateway.ask(Broke("x"), after=receipt))
            assert isinstance(faulted, ViewFaulted)
            assert (faulted.view, faulted.position) == ("Fragile", 1)
            assert repr(faulted.cause) == 'RuntimeError("the view can\'t")'
            assert str(faulted) == (
                'view Fragile faulted at position 1: RuntimeError("the view can\'t"); '
                "mend the view and open the engine again, which rebuilds it from the log"
            )
            assert await gateway.ask(StockOf("apple"), after=receipt) == 0

    async def test_a_view_that_has_left_something_out_says_so_and_its_answer_is_typed(self) -> None:
        async with self.running(desk("skip")) as (gateway, _, _):
            await gateway.execute(Put("a", "good"))
            receipt = await gateway.execute(Put("a", "bad"))
            error = await error_of(gateway.ask(Seen(), after=receipt))
            assert isinstance(error, ViewIncomplete)
            assert (error.view, error.position, error.parked, error.skipped) == ("Shelves", 2, 0, 1)
            assert error.answer == ("a good",)
            assert await gateway.ask(Seen(), after=receipt, incomplete=True) == ("a good",)
            error = await error_of(gateway.ask_all(Counted(), Seen()))
            assert isinstance(error, ViewIncomplete)
            assert (error.view, error.query, error.answer) == ("Shelves", "Seen", ("a good",))
            count, seen = await gateway.ask_all(Counted(), Seen(), incomplete=True)
            assert (count > 0, seen) == (True, ("a good",))

    # Watches.

    async def test_a_watch_gives_the_answer_now_and_then_each_changed_one(self) -> None:
        async with self.running() as (gateway, _, _):
            receipt = await gateway.execute(Add("apple", 1))
            async with gateway.watch(StockOf("apple"), after=receipt) as answers:
                assert await taken(answers) == (1, 1)
                await gateway.execute(Add("pear", 1))
                await gateway.execute(Add("apple", 1))
                assert await taken(answers) == (2, 3)
            async with gateway.watch(Notes()) as notes:
                assert (await taken(notes))[0] == ()

    async def test_a_watch_of_rows_gives_all_of_them_and_then_those_that_changed(self) -> None:
        async with self.running(table()) as (gateway, _, _):
            receipt = await gateway.execute(Place("a1", "hamlet", 5))
            async with gateway.watch_rows(Free(), after=receipt) as changes:
                async with asyncio.timeout(10):
                    first = await anext(changes)
                    assert (first.whole, first.position, first.key) == (True, 1, "seat")
                    assert [row.seat for row in first.put] == ["a1"]
                    await gateway.execute(Place("a2", "hamlet", 6))
                    second = await anext(changes)
                    assert ([row.seat for row in second.put], second.removed, second.whole) == (["a2"], (), False)
                    await gateway.execute(Sell(("a1",)))
                    third = await anext(changes)
                    assert (third.put, third.removed, third.position) == ((), ("a1",), 3)
            with pytest.raises(InvalidMessage, match="no field 'chair'"):
                async with gateway.watch_rows(Free(), key="chair"):
                    pass

    async def test_a_watch_goes_on_when_who_waits_for_the_next_answer_gives_up(self) -> None:
        for every in (False, True):
            async with self.running() as (gateway, _, _), gateway.watch(StockOf("apple"), every=every) as answers:
                assert await taken(answers) == (0, 0)
                for _ in range(2):
                    with pytest.raises(TimeoutError):
                        async with asyncio.timeout(0.01):
                            await anext(answers)
                await gateway.execute(Add("apple", 1))
                assert await taken(answers) == (1, 1)

    async def test_a_watch_of_every_change_leaves_none_out(self) -> None:
        async with self.running() as (gateway, _, _), gateway.watch(StockOf("apple"), every=True) as answers:
            await gateway.execute_many([Add("apple", 1)] * 20)
            seen = [await taken(answers) for _ in range(2)]
            while seen[-1][0] != 20:
                seen.append(await taken(answers))
            assert seen[0] == (0, 0)
            assert [answer for answer, _ in seen] == [position for _, position in seen]
            assert [position for _, position in seen] == sorted({position for _, position in seen})

    async def test_a_watch_of_the_newest_ends_with_the_newest_and_goes_never_back(self) -> None:
        async with self.running() as (gateway, _, _), gateway.watch(StockOf("apple")) as answers:
            await gateway.execute_many([Add("apple", 1)] * 500)
            seen = [await taken(answers)]
            while seen[-1] != (500, 500):
                seen.append(await taken(answers))
            assert seen == sorted(set(seen))
            assert all(answer == position for answer, position in seen)

    async def test_a_watch_that_can_not_begin_says_why(self) -> None:
        async with (
            self.running(limits=Limits(watches_max=1)) as (gateway, _, _),
            gateway.watch(StockOf("a")) as answers,
        ):
            assert await taken(answers) == (0, 0)
            with pytest.raises(WatchesFull, match="1 watches are open, watches_max=1"):
                async with gateway.watch(StockOf("b")):
                    pass
        async with self.running() as (gateway, _, _):
            with pytest.raises(UnknownMessage, match="has no query 'Riddle'"):
                async with gateway.watch(Riddle("a")):
                    pass

    async def test_a_watch_that_is_left_makes_room_for_another_one(self) -> None:
        async with self.running(limits=Limits(watches_max=1)) as running:
            for _ in range(3):
                async with running.gateway.watch(StockOf("a")) as answers:
                    assert await taken(answers) == (0, 0)

    async def test_a_watch_ends_with_the_error_of_its_view(self) -> None:
        async with self.running() as (gateway, _, _), gateway.watch(Broke("x")) as answers:
            assert await taken(answers) == ("x 0", 0)
            await gateway.execute(Break("view"))
            with pytest.raises(ViewFaulted, match="view Fragile faulted at position 1"):
                await taken(answers)

    async def test_a_watch_of_a_view_that_leaves_something_out_says_so_unless_that_will_do(self) -> None:
        async with (
            self.running(desk("skip")) as (gateway, _, _),
            gateway.watch(Seen()) as strict,
            gateway.watch(Seen(), incomplete=True) as lenient,
        ):
            assert await taken(strict) == ((), 0)
            assert await taken(lenient) == ((), 0)
            await gateway.execute(Put("a", "bad"))
            await gateway.execute(Put("b", "good"))
            with pytest.raises(ViewIncomplete) as raised:
                await taken(strict)
            assert raised.value.skipped == 1
            assert raised.value.answer in ((), ("b good",))
            assert await taken(lenient) == (("b good",), 2)

    # Many at once, and the end.

    async def test_hundreds_at_once_each_see_what_they_wrote(self) -> None:
        async with self.running() as (gateway, engine, _):

            async def one(number: int) -> None:
                receipt = await gateway.execute(Add(f"item {number}", number))
                seen.append(await gateway.ask(StockOf(f"item {number}"), after=receipt) == number)

            seen: list[bool] = []
            async with anyio.create_task_group() as group:
                for number in range(1, 301):
                    group.start_soon(one, number)
            assert seen == [True] * 300
            assert engine.position == 300

    async def test_whoever_is_cancelled_leaves_the_others_alone(self) -> None:
        async with self.running() as (gateway, _, log), anyio.create_task_group() as group:
            log.hold()
            first = start(group, gateway.execute(Add("a", 1)))
            await until(lambda: log.appends_started)
            with anyio.move_on_after(0.02) as scope:
                await gateway.execute(Add("b", 1))
            assert scope.cancelled_caught
            third = start(group, gateway.execute(Add("c", 1)))
            log.release()
            await until(lambda: first.settled and third.settled)
            assert (first.value.commit, third.error) == (1, None)

    async def test_after_its_end_a_gateway_takes_nothing(self) -> None:
        async with self.running() as (gateway, _, _):
            await gateway.execute(Add("a", 1))
        for awaitable in (gateway.execute(Add("a", 1)), gateway.ask(StockOf("a"))):
            assert isinstance(await error_of(awaitable), EngineClosed)
        (outcome,) = await gateway.execute_many([Add("a", 1)])
        assert isinstance(outcome, EngineClosed)
        with pytest.raises(EngineClosed):
            async with gateway.watch(StockOf("a")):
                pass

"""What a caller hears before anything is taken, and when giving up; the writer is played by the tests themselves."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from millstream.engine import (
    Command,
    DeadlineExceeded,
    Engine,
    EngineClosed,
    InvalidMessage,
    Limits,
    MemoryLog,
    Metadata,
    MillstreamError,
    Overloaded,
    Receipt,
    UnknownMessage,
)
from millstream.engine.application.options import Options, Terms
from millstream.engine.loop.clock import elapsed
from millstream.engine.write import admission as admission_module
from millstream.engine.write import expiry as expiry_module
from millstream.engine.write.admission import Admission
from millstream.engine.write.mailbox import Mailbox
from tests.shop import Add, Note, StockOf, Take, shop
from tests.support import settled, start

pytestmark = pytest.mark.anyio

ANN = Metadata(actor="ann")


def opened(commands_max: int = 1_000) -> tuple[Admission, Mailbox]:
    mailbox = Mailbox(commands_max, entering_max=10, bytes_max=1_000)
    mailbox.open()
    return Admission(shop, mailbox, Limits()), mailbox


def answer(mailbox: Mailbox, *outcomes: Receipt | MillstreamError) -> list[tuple[Command, Terms | None]]:
    """Take commands out as the writer does, each with the outcome that it gets; those who gave up are passed over."""
    taken: list[tuple[Command, Terms | None]] = []
    for outcome in outcomes:
        promise, command, options = mailbox.queue.popleft()
        if promise.done():
            mailbox.skipped.append(promise)
            continue
        taken.append((command, options))
        if isinstance(outcome, Receipt):
            promise.set_result(outcome)
        else:
            promise.set_exception(outcome)
    mailbox.admit()
    return taken


# Commands and terms.


async def test_what_goes_on_is_a_private_copy_or_what_is_as_good_as_one() -> None:
    admission, _ = opened()
    command = Add("a", 1)
    assert admission.command(command) is command
    long = Add("a" * 1_000, 1)  # longer than what has an exact check
    copy = admission.command(long)
    assert copy == long
    assert copy is not long
    with pytest.raises(InvalidMessage, match=r"Add is not valid: Expected `int` >= 1 - at `\$.count`"):
        admission.command(Add("a", 0))
    with pytest.raises(UnknownMessage, match="application 'shop' has no command 'StockOf'; it has: Add, Take, Move"):
        admission.command(StockOf("a"))  # type: ignore[arg-type]


ADD_A_3 = "aa8e3a1fb8f9a266e5964e1d414fa7c5"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((None, None, None), None),
        (("id-1", None, None), Terms("id-1", ADD_A_3)),
        (("☃" * 200, None, None), Terms("☃" * 200, ADD_A_3)),
        ((None, 0, None), Terms(expected_version=0)),
        ((None, None, ANN), Terms(metadata=ANN)),
        (("id-1", 7, ANN), Terms("id-1", ADD_A_3, 7, ANN)),
    ],
)
async def test_terms_are_what_the_caller_named(given: tuple[Any, Any, Any], expected: Terms | None) -> None:
    admission, mailbox = opened()
    promise: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
    assert admission.submit(Add("a", 3), Options(*given), promise) == 1
    assert list(mailbox.queue) == [(promise, Add("a", 3), expected)]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (("", None, None), "command_id is not valid: a string of 1 to 200 characters, not ''"),
        (("x" * 201, None, None), "command_id is not valid: a string of 1 to 200 characters"),
        ((7, None, None), "command_id is not valid: a string of 1 to 200 characters, not 7"),
        (("\ud800", None, None), r"command_id is not valid: characters that UTF-8 has, not '\\ud800'"),
        ((None, -1, None), "expected_version is not valid: a whole number from 0 on, not -1"),
        ((None, True, None), "expected_version is not valid: a whole number from 0 on, not True"),
        ((None, "1", None), "expected_version is not valid: a whole number from 0 on, not '1'"),
        ((None, None, {"actor": "ann"}), "metadata is not valid: a Metadata, not {'actor': 'ann'}"),
        ((None, None, Metadata(actor="\udfff")), "metadata is not valid: .*surrogates not allowed"),
    ],
)
async def test_terms_that_are_none_are_named(given: tuple[Any, Any, Any], problem: str) -> None:
    with pytest.raises(InvalidMessage, match=problem):
        opened()[0].submit(Add("a", 3), Options(*given), asyncio.get_running_loop().create_future())


async def test_a_version_is_expected_of_a_command_with_a_key_only() -> None:
    with pytest.raises(InvalidMessage, match="expected_version is not valid: Note has no Key field to have a version"):
        opened()[0].submit(Note("hi"), Options(expected_version=0), asyncio.get_running_loop().create_future())


# Many at once.


async def test_each_command_has_its_own_id_and_all_have_the_same_metadata() -> None:
    admission, mailbox = opened()
    async with anyio.create_task_group() as group:
        sent = start(group, admission.execute_many([Add("a", 3), Note("hi")], ["id-1", "id-2"], ANN, None))
        await settled()
        taken = answer(mailbox, Receipt(1, 1, 1, "id-1"), Receipt(1, 2, 1, "id-2"))
    assert sent.value == [Receipt(1, 1, 1, "id-1"), Receipt(1, 2, 1, "id-2")]
    assert taken == [
        (Add("a", 3), Terms("id-1", ADD_A_3, None, ANN)),
        (Note("hi"), Terms("id-2", "171d166c54d6e8f8f79e93988ee56fbe", None, ANN)),
    ]


async def test_without_ids_commands_carry_no_more_than_they_need() -> None:
    admission, mailbox = opened()
    async with anyio.create_task_group() as group:
        for metadata, options in ((None, None), (ANN, Terms(metadata=ANN))):
            start(group, admission.execute_many([Add("a", 3)], None, metadata, None))
            await settled()
            assert answer(mailbox, Receipt(1, 1, 1)) == [(Add("a", 3), options)]


async def test_what_is_wrong_with_one_command_is_its_own_outcome() -> None:
    admission, mailbox = opened()
    todo: list[Any] = [Add("a", 0), Add("a", 1), StockOf("a"), Add("a", 2), Add("a", 3)]
    async with anyio.create_task_group() as group:
        sent = start(group, admission.execute_many(todo, ["1", "2", "3", "\ud800", "5"], None, None))
        await settled()
        taken = answer(mailbox, Receipt(1, 1, 1), EngineClosed("closing"))
    assert [type(outcome).__name__ for outcome in sent.value] == [
        "InvalidMessage", "Receipt", "UnknownMessage", "InvalidMessage", "EngineClosed",
    ]  # fmt: skip
    assert [command for command, _ in taken] == [Add("a", 1), Add("a", 3)]


@pytest.mark.parametrize(
    ("ids", "problem"),
    [
        (["1"], "command_ids is not valid: one for each of 2 commands, not 1"),
        (["1", "2", "3"], "command_ids is not valid: one for each of 2 commands, not 3"),
        ([], "command_ids is not valid: one for each of 2 commands, not 0"),
        ("12", "command_ids is not valid: an id for each command, not one string '12'"),
    ],
)
async def test_there_are_as_many_ids_as_commands_or_none(ids: Any, problem: str) -> None:
    admission, mailbox = opened()
    with pytest.raises(InvalidMessage, match=problem):
        await admission.execute_many([Add("a", 1)] * 2, ids, None, None)
    assert not mailbox.queue


async def test_no_commands_have_no_outcomes_and_wrong_metadata_is_refused_for_all() -> None:
    admission, mailbox = opened()
    assert await admission.execute_many([], None, None, None) == []
    assert await admission.execute_many([], [], ANN, 0.0) == []
    with pytest.raises(InvalidMessage):
        await admission.execute_many([Add("a", 1)], None, Metadata(actor=7), None)  # type: ignore[arg-type]
    assert not mailbox.queue


async def test_more_than_the_mailbox_holds_wait_for_room_in_their_order() -> None:
    admission, mailbox = opened(commands_max=2)
    async with anyio.create_task_group() as group:
        sent = start(group, admission.execute_many([Add("a", n) for n in range(1, 6)], None, None, None))
        taken: list[Any] = []
        for number in range(1, 6):
            await settled()
            assert len(mailbox.queue) <= 2
            taken += answer(mailbox, Receipt(number, number, 1))
    assert [command.count for command, _ in taken] == [1, 2, 3, 4, 5]
    assert [receipt.commit for receipt in sent.value] == [1, 2, 3, 4, 5]


async def test_when_the_mailbox_closes_each_of_those_left_hears_it() -> None:
    admission, mailbox = opened(commands_max=1)
    async with anyio.create_task_group() as group:
        sent = start(group, admission.execute_many([Add("a", 1), Add("a", 2), Add("a", 3)], None, None, None))
        await settled()
        mailbox.close(lambda: EngineClosed("closing"))
        answer(mailbox, Receipt(1, 1, 1))
    assert [type(outcome) for outcome in sent.value] == [Receipt, EngineClosed, EngineClosed]


async def test_those_that_are_not_answered_in_time_say_whether_they_were_decided_and_the_rest_never_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    admission, mailbox = opened(commands_max=2)
    time = anyio.CancelScope()
    given: list[float] = []

    def move_on_after(seconds: float) -> anyio.CancelScope:
        given.append(seconds)
        return time

    monkeypatch.setattr(admission_module, "anyio", SimpleNamespace(move_on_after=move_on_after))
    async with anyio.create_task_group() as group:
        sent = start(group, admission.execute_many([Add("a", n) for n in range(1, 6)], None, None, 0.05))
        await settled()
        answer(mailbox, Receipt(1, 1, 1))
        mailbox.queue.popleft()  # decided, and not durable before the time is over
        time.cancel()
    assert given == [0.05]
    assert [type(outcome) for outcome in sent.value] == [Receipt] + [DeadlineExceeded] * 4
    assert [outcome.decided for outcome in sent.value[1:]] == [True, False, False, False]
    assert {outcome.timeout_seconds for outcome in sent.value[1:]} == {0.05}
    assert [command for _, command, _ in mailbox.queue] == [Add("a", 3), Add("a", 4)]  # the fifth did not get in
    assert all(promise.done() for promise, _, _ in mailbox.queue)


async def test_a_caller_who_is_cancelled_takes_back_what_is_not_decided() -> None:
    admission, mailbox = opened()
    async with anyio.create_task_group() as group:
        start(group, admission.execute_many([Add("a", 1), Add("a", 2)], None, None, None))
        await settled()
        group.cancel_scope.cancel()
    assert len(mailbox.queue) == 2
    assert answer(mailbox, Receipt(1, 1, 1), Receipt(1, 2, 1)) == []


async def test_a_short_series_is_taken_in_together_however_slow_the_machine_is() -> None:
    log = MemoryLog()
    async with Engine(shop, log=log, limits=Limits(slice_ms_max=1e-9)) as engine:
        receipts = await engine.execute_many([Add("a", 1)] * 16)
    assert [receipt.commit for receipt in receipts if isinstance(receipt, Receipt)] == [1] * 16


async def test_a_long_series_never_stands_before_the_commands_of_others_with_more_than_some_batches() -> None:
    batch = 64  # the series looks at how much is under way every 64 commands
    mailbox = Mailbox(10_000, entering_max=10, bytes_max=1_000)
    mailbox.open()
    admission = Admission(shop, mailbox, Limits(batch_commands_max=batch))
    count, number, before = 20 * batch, 0, 0
    async with anyio.create_task_group() as group:
        sent = start(group, admission.execute_many([Add("a", n) for n in range(1, count + 1)], None, None, None))
        while number < count:
            await settled()
            waiting = min(batch, count - number)
            assert waiting <= len(mailbox.queue) <= 5 * batch
            before = max(before, len(mailbox.queue))
            answer(mailbox, *(Receipt(each, each, 1) for each in range(number + 1, number + waiting + 1)))
            number += waiting
    assert before > 3 * batch  # the writer always has some to go on with
    assert [receipt.position for receipt in sent.value] == list(range(1, count + 1))


async def test_what_is_refused_at_once_waits_for_those_before_it() -> None:
    admission, mailbox = opened()
    async with anyio.create_task_group() as group:
        wrong: Any = Add("a", "many")  # type: ignore[arg-type]
        sent = start(group, admission.execute_many([Add("a", 1), Add("a", 2), wrong], None, None, None))
        await settled()
        answer(mailbox, Receipt(1, 1, 1))
        await settled()
        assert sent.kind == "waiting"
        answer(mailbox, Receipt(2, 2, 1))
    assert [type(outcome) for outcome in sent.value] == [Receipt, Receipt, InvalidMessage]


async def test_what_is_known_behind_one_that_is_late_is_told() -> None:
    admission, mailbox = opened()
    wrong: Any = Add("a", "many")  # type: ignore[arg-type]
    outcomes = await admission.execute_many([Add("a", 1), wrong, Add("a", 2)], None, None, 1e-6)
    assert [type(outcome) for outcome in outcomes] == [DeadlineExceeded, InvalidMessage, DeadlineExceeded]
    assert [promise.done() for promise, _, _ in mailbox.queue] == [True, True]


# One with a deadline.


class Timer:
    """A timer that goes off when the test says so: stands in for the loop's."""

    def __init__(self) -> None:
        self.delay = 0.0
        self.is_cancelled = False
        self.go_off: Callable[[], None] = lambda: None

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        self.delay, self.go_off = delay, callback
        return self

    def cancel(self) -> None:
        self.is_cancelled = True


@pytest.fixture
def timer(monkeypatch: pytest.MonkeyPatch) -> Timer:
    timer = Timer()
    stand_in = SimpleNamespace(get_running_loop=lambda: timer)
    monkeypatch.setattr(expiry_module, "asyncio", stand_in)
    return timer


def in_time(admission: Admission, seconds: float, *, wait: bool = True) -> Awaitable[Receipt]:
    return admission.execute_in_time(Take("a", 1), Options(timeout=seconds, wait=wait), seconds)


async def test_an_answer_in_time_is_given_on_and_the_timer_is_let_go(timer: Timer) -> None:
    admission, mailbox = opened()
    async with anyio.create_task_group() as group:
        sent = start(group, in_time(admission, 60.0))
        await settled()
        assert 0 < timer.delay <= 60
        answer(mailbox, Receipt(1, 1, 1))
    assert sent.value == Receipt(1, 1, 1)
    assert timer.is_cancelled
    timer.go_off()  # too late to say anything


@pytest.mark.parametrize("decided", [False, True])
async def test_a_command_that_expires_says_whether_it_was_decided(timer: Timer, decided: bool) -> None:
    admission, mailbox = opened()
    async with anyio.create_task_group() as group:
        sent = start(group, in_time(admission, 60.0))
        await settled()
        if decided:
            mailbox.queue.popleft()
        timer.go_off()
    assert isinstance(sent.error, DeadlineExceeded)
    assert (sent.error.command, sent.error.timeout_seconds, sent.error.decided) == ("Take", 60.0, decided)


async def test_an_error_that_comes_in_the_turn_in_which_its_caller_is_cancelled_is_nobody_s() -> None:
    """Nor asyncio's, which would write that it was never retrieved."""
    admission, _ = opened(commands_max=1)
    admission.submit(Take("a", 1), None, asyncio.get_running_loop().create_future())  # so all others wait to get in
    said: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context["message"]))
    for _ in range(20):
        tasks = [asyncio.ensure_future(in_time(admission, 0.002)) for _ in range(5)]
        await asyncio.sleep(0)
        until = elapsed() + 0.004
        while elapsed() < until:  # their time is over before the loop looks at it
            pass
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    del task, tasks
    gc.collect()
    asyncio.get_running_loop().set_exception_handler(None)
    assert said == []


async def test_a_command_that_does_not_get_in_before_its_deadline_is_not_taken() -> None:
    admission, mailbox = opened(commands_max=1)
    admission.submit(Take("a", 1), None, asyncio.get_running_loop().create_future())
    with pytest.raises(DeadlineExceeded) as raised:
        await in_time(admission, 0.01)
    assert not raised.value.decided
    assert (len(mailbox.queue), mailbox.entering) == (1, 0)
    with pytest.raises(Overloaded):
        await in_time(admission, 60.0, wait=False)


@pytest.mark.parametrize("decided", [False, True])
async def test_a_cancelled_command_is_said_to_stand_only_if_it_was_decided(decided: bool) -> None:
    admission, mailbox = opened()
    notes: list[str] = []

    async def send() -> None:
        try:
            await in_time(admission, 60.0)
        except asyncio.CancelledError as error:
            notes.extend(getattr(error, "__notes__", []))
            raise

    async with anyio.create_task_group() as group:
        group.start_soon(send)
        await settled()
        if decided:
            mailbox.queue.popleft()
        group.cancel_scope.cancel()
    said = "millstream: the command was decided before it was cancelled; it stands once it is durable"
    assert notes == ([said] if decided else [])


async def test_who_cancels_an_execute_many_hears_how_many_of_its_commands_were_decided() -> None:
    admission, mailbox = opened()
    task = asyncio.ensure_future(admission.execute_many([Add("a", n) for n in range(1, 4)], None, None, None))
    await settled()
    mailbox.queue.popleft()
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as raised:
        await task
    assert "1 of 3 commands were decided before that" in raised.value.__notes__[0]

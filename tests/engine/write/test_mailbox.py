from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest

from millstream.engine import Command, EngineClosed, Overloaded
from millstream.engine.write.envelope import Envelope
from millstream.engine.write.mailbox import Mailbox
from tests.shop import Note
from tests.support import settled

pytestmark = pytest.mark.anyio


def envelope(text: str) -> Envelope:
    promise: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    command: Command = Note(text)
    return promise, command, None


def texts(mailbox: Mailbox) -> list[str]:
    return [command.text for _, command, _ in mailbox.queue if isinstance(command, Note)]


async def entered(mailbox: Mailbox, text: str, into: list[str]) -> None:
    await mailbox.put(envelope(text))
    into.append(text)


async def test_a_ticket_tells_whether_its_command_was_taken_out() -> None:
    mailbox = Mailbox(3, 100)
    mailbox.open()
    assert [mailbox.put_nowait(envelope(text)) for text in "abc"] == [1, 2, 3]
    assert mailbox.taken_out == 0
    mailbox.queue.popleft()
    assert mailbox.taken_out == 1


async def test_whoever_waits_gets_in_in_order_and_nobody_overtakes() -> None:
    mailbox, got_in = Mailbox(2, 100), []  # type: tuple[Mailbox, list[str]]
    mailbox.open()
    async with anyio.create_task_group() as group:
        for text in "abcde":
            group.start_soon(entered, mailbox, text, got_in)
            await settled()
        assert got_in == ["a", "b"]
        assert mailbox.entering == 3
        mailbox.queue.popleft()
        mailbox.admit()
        with pytest.raises(Overloaded):  # the free place is spoken for
            mailbox.put_nowait(envelope("x"))
        await settled()
        assert texts(mailbox) == ["b", "c"]
        mailbox.queue.clear()
        mailbox.admit()
        await settled()
        assert texts(mailbox) == ["d", "e"]
    assert got_in == list("abcde")


async def test_who_gives_up_waiting_leaves_the_place_to_the_next() -> None:
    mailbox, got_in = Mailbox(1, 100), []  # type: tuple[Mailbox, list[str]]
    mailbox.open()
    mailbox.put_nowait(envelope("a"))
    tasks = [asyncio.create_task(entered(mailbox, text, got_in)) for text in "bcd"]
    await settled()
    tasks[0].cancel()  # while it waits
    await settled()
    mailbox.queue.popleft()
    mailbox.admit()
    tasks[1].cancel()  # when its place was promised already
    await settled()
    assert texts(mailbox) == ["d"]
    assert got_in == ["d"]
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_closing_turns_away_who_waits_and_keeps_what_is_in() -> None:
    mailbox = Mailbox(1, 100)
    mailbox.open()
    mailbox.put_nowait(envelope("a"))
    task = asyncio.create_task(mailbox.put(envelope("b")))
    await settled()
    mailbox.close(lambda: EngineClosed("closing"))
    with pytest.raises(EngineClosed):
        await task
    with pytest.raises(EngineClosed):
        mailbox.put_nowait(envelope("c"))
    assert texts(mailbox) == ["a"]


async def test_the_reader_sleeps_until_there_is_news() -> None:
    mailbox = Mailbox(1, 100)
    mailbox.open()
    reader = asyncio.create_task(mailbox.wait())
    await settled()
    assert not reader.done()
    mailbox.put_nowait(envelope("a"))
    await reader


async def test_as_many_as_the_limit_says_may_wait_to_get_in() -> None:
    mailbox = Mailbox(1, 1)
    mailbox.open()
    mailbox.put_nowait(envelope("a"))
    task = asyncio.create_task(mailbox.put(envelope("b")))
    await settled()
    with pytest.raises(Overloaded):
        await mailbox.put(envelope("c"))
    mailbox.queue.clear()
    mailbox.admit()
    assert await task == 2

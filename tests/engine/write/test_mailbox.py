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
    mailbox = Mailbox(3, 100, 1_000)
    mailbox.open()
    assert [mailbox.put_nowait(envelope(text)) for text in "abc"] == [1, 2, 3]
    assert mailbox.taken_out == 0
    mailbox.queue.popleft()
    assert mailbox.taken_out == 1


async def test_whoever_waits_gets_in_in_order_and_nobody_overtakes() -> None:
    mailbox, got_in = Mailbox(2, 100, 1_000), []  # type: tuple[Mailbox, list[str]]
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
    mailbox, got_in = Mailbox(1, 100, 1_000), []  # type: tuple[Mailbox, list[str]]
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


async def test_large_commands_wait_until_there_is_room_for_their_bytes_and_nobody_overtakes() -> None:
    mailbox, got_in = Mailbox(10, 100, 1_000), []  # type: tuple[Mailbox, list[str]]
    mailbox.open()

    async def enter(text: str, size_bytes: int) -> None:
        await mailbox.put(envelope(text), size_bytes)
        got_in.append(text)

    async with anyio.create_task_group() as group:
        for text, size_bytes in (("a", 5_000), ("b", 0), ("c", 600), ("d", 0), ("e", 400), ("f", 1)):
            group.start_soon(enter, text, size_bytes)
            await settled()
        assert (got_in, mailbox.size_bytes, mailbox.entering) == (["a", "b"], 5_000, 4)
        mailbox.queue.popleft()
        mailbox.admit()
        await settled()
        assert (got_in, mailbox.size_bytes, mailbox.entering) == (["a", "b", "c", "d", "e"], 1_000, 1)
        mailbox.queue.popleft()  # b has no bytes
        mailbox.admit()
        await settled()
        assert mailbox.entering == 1
        mailbox.queue.popleft()
        mailbox.admit()
        await settled()
        assert (texts(mailbox), mailbox.size_bytes) == (["d", "e", "f"], 401)
    mailbox.queue.clear()
    mailbox.admit()
    assert mailbox.size_bytes == 0


async def test_who_will_not_wait_is_told_of_what_there_is_too_much() -> None:
    mailbox = Mailbox(2, 100, 1_000)
    mailbox.open()
    mailbox.put_nowait(envelope("a"), 900)
    with pytest.raises(Overloaded) as by_bytes:
        mailbox.put_nowait(envelope("b"), 101)
    assert (by_bytes.value.waiting_bytes, by_bytes.value.mailbox_bytes_max) == (900, 1_000)
    mailbox.put_nowait(envelope("b"), 100)
    with pytest.raises(Overloaded, match="2 commands wait, mailbox_commands_max=2"):
        mailbox.put_nowait(envelope("c"))
    mailbox.close(lambda: EngineClosed("closing"))
    with pytest.raises(EngineClosed):
        mailbox.put_nowait(envelope("c"), 5_000)


async def test_the_bytes_of_one_who_gives_up_are_free_again() -> None:
    mailbox = Mailbox(10, 100, 1_000)
    mailbox.open()
    mailbox.put_nowait(envelope("a"), 1_000)
    tasks = [asyncio.create_task(mailbox.put(envelope(text), 800)) for text in "bc"]
    await settled()
    mailbox.queue.popleft()
    mailbox.admit()
    tasks[0].cancel()  # when its place was promised already
    await settled()
    assert (texts(mailbox), mailbox.size_bytes) == (["c"], 800)
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_closing_turns_away_who_waits_and_keeps_what_is_in() -> None:
    mailbox = Mailbox(1, 100, 1_000)
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
    mailbox = Mailbox(1, 100, 1_000)
    mailbox.open()
    reader = asyncio.create_task(mailbox.wait())
    await settled()
    assert not reader.done()
    mailbox.put_nowait(envelope("a"))
    await reader


async def test_as_many_as_the_limit_says_may_wait_to_get_in() -> None:
    mailbox = Mailbox(1, 1, 1_000)
    mailbox.open()
    mailbox.put_nowait(envelope("a"))
    task = asyncio.create_task(mailbox.put(envelope("b")))
    await settled()
    with pytest.raises(Overloaded):
        await mailbox.put(envelope("c"))
    mailbox.queue.clear()
    mailbox.admit()
    assert await task == 2

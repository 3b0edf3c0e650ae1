"""Following a log, as a suite."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import anyio
import anyio.lowlevel
import pytest

from millstream.engine.commits.commit import Commit
from millstream.engine.testing.stores.handles import LogHandles
from millstream.engine.testing.stores.written import APP, READ_BYTES, append_all, commits, take

__all__ = ["LogFollowing"]


class LogFollowing(LogHandles):
    """What `Log.follow` promises."""

    @pytest.mark.parametrize("bytes_max", [1, 300, 1_000_000])
    async def test_who_follows_gets_what_is_there_in_order_without_a_gap(self, bytes_max: int) -> None:
        log, written = self.handle(), commits(40)
        await log.open(APP)
        await append_all(log, written)
        async with aclosing(log.follow(0, bytes_max)) as pages:
            assert await take(pages, 40) == written
        async with aclosing(log.follow(38, bytes_max)) as pages:
            assert await take(pages, 2) == written[38:]

    async def test_who_follows_waits_at_the_end_and_gets_what_is_appended_then(self) -> None:
        log, written = self.handle(), commits(20)
        await log.open(APP)
        async with aclosing(log.follow(0, READ_BYTES)) as pages:
            for commit in written:
                waiting = asyncio.create_task(take(pages, 1))
                await anyio.lowlevel.checkpoint()
                await log.append(commit)
                assert await waiting == [commit]

    async def test_who_follows_beside_a_writer_gets_what_that_appends(self) -> None:
        writer, reader, written = self.handle(), self.handle(), commits(20)
        await writer.open(APP)
        await append_all(writer, written[:3])
        await reader.attach()
        async with aclosing(reader.follow(1, READ_BYTES)) as pages:
            assert await take(pages, 2) == written[1:3]
            for commit in written[3:]:
                waiting = asyncio.create_task(take(pages, 1))
                await anyio.lowlevel.checkpoint()
                await writer.append(commit)
                assert await waiting == [commit]

    async def test_who_follows_goes_on_when_writers_come_and_go(self) -> None:
        reader, written = self.handle(), commits(12)
        first = self.handle()
        await first.open(APP)
        await first.append(written[0])
        await first.close()
        await reader.attach()
        async with aclosing(reader.follow(0, READ_BYTES)) as pages:
            assert await take(pages, 1) == written[:1]
            for index in range(1, 11, 2):
                waiting = asyncio.create_task(take(pages, 1))
                await anyio.lowlevel.checkpoint()
                writer = self.handle()
                await writer.open(APP)
                await writer.append(written[index])
                assert await waiting == [written[index]]
                await writer.append(written[index + 1])
                await writer.close()
                assert await take(pages, 1) == [written[index + 1]]

    @pytest.mark.parametrize("beside", [False, True])
    async def test_many_follow_from_where_each_of_them_is_while_much_is_appended(self, beside: bool) -> None:
        writer, written = self.handle(), commits(100)
        await writer.open(APP)
        await writer.append(written[0])
        reader = self.handle() if beside else writer
        if beside:
            await reader.attach()
        found: list[list[Commit]] = []

        async def follow(after: int) -> None:
            async with aclosing(reader.follow(after, 2_000)) as pages:
                found.append(await take(pages, 100 - after))

        async with anyio.create_task_group() as group:
            for after in (0, 1, 50, 99):
                group.start_soon(follow, after)
            await append_all(writer, written[1:])
        assert sorted(found, key=len) == [written[99:], written[50:], written[1:], written]

    @pytest.mark.parametrize("beside", [False, True])
    async def test_who_stops_following_leaves_nothing_behind(self, beside: bool) -> None:
        writer, written = self.handle(), commits(3)
        await writer.open(APP)
        await writer.append(written[0])
        reader = self.handle() if beside else writer
        if beside:
            await reader.attach()
        before = asyncio.all_tasks()
        for turns in range(12):
            pages = reader.follow(1, READ_BYTES)
            waiting = asyncio.create_task(take(pages, 1))
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
            waiting.cancel()
            await asyncio.wait([waiting])
            assert waiting.cancelled()
            await pages.aclose()
        with anyio.fail_after(30):  # what the store was asked goes on to its end
            while asyncio.all_tasks() - before:
                await anyio.lowlevel.checkpoint()
        async with aclosing(reader.follow(0, READ_BYTES)) as pages:
            assert await take(pages, 1) == written[:1]
            await append_all(writer, written[1:])
            assert await take(pages, 2) == written[1:]

    @pytest.mark.parametrize("beside", [False, True])
    async def test_closing_a_log_ends_those_who_follow_through_it_and_no_others(self, beside: bool) -> None:
        writer, written = self.handle(), commits(3)
        await writer.open(APP)
        await append_all(writer, written[:2])
        other, reader = self.handle(), self.handle() if beside else writer
        for log in (other, reader)[: 1 + beside]:
            await log.attach()
        async with aclosing(reader.follow(1, READ_BYTES)) as pages, aclosing(other.follow(2, READ_BYTES)) as others:
            assert await take(pages, 1) == written[1:2]
            ends = asyncio.create_task(anext(pages, None))
            goes_on = asyncio.create_task(take(others, 1))
            for _ in range(20):
                await anyio.lowlevel.checkpoint()
            await reader.close()
            with anyio.fail_after(30):
                assert await ends is None
            if not beside:
                writer = self.handle()
                await writer.open(APP)
            await writer.append(written[2])
            assert await goes_on == written[2:]

    async def test_a_log_that_is_opened_again_is_followed_again(self) -> None:
        log, written = self.handle(), commits(3)
        for commit in written:
            await log.open(APP)
            async with aclosing(log.follow(commit.number - 1, READ_BYTES)) as pages:
                waiting = asyncio.create_task(take(pages, 1))
                await anyio.lowlevel.checkpoint()
                await log.append(commit)
                assert await waiting == [commit]
            await log.close()

    async def test_who_follows_hears_of_an_append_that_was_cancelled(self) -> None:
        log, written = self.handle(), commits(3)
        await log.open(APP)
        async with aclosing(log.follow(0, READ_BYTES)) as pages:
            waiting = asyncio.create_task(take(pages, 1))
            for _ in range(5):
                await anyio.lowlevel.checkpoint()
            append = asyncio.create_task(log.append(written[0]))
            await anyio.lowlevel.checkpoint()
            append.cancel()
            await asyncio.wait([append])
            assert await waiting == written[:1]

    async def test_hurrying_does_no_harm_whatever_the_log_is_doing(self) -> None:
        writer, reader, written = self.handle(), self.handle(), commits(2)
        for log in (writer, reader):
            log.look_now()
        await writer.open(APP)
        await writer.append(written[0])
        await reader.attach()
        async with aclosing(reader.follow(0, READ_BYTES)) as pages:
            assert await take(pages, 1) == written[:1]
            waiting = asyncio.create_task(take(pages, 1))
            for _ in range(20):
                await anyio.lowlevel.checkpoint()
                writer.look_now()
                reader.look_now()
            await writer.append(written[1])
            reader.look_now()
            assert await waiting == written[1:]
        for log in (writer, reader):
            await log.close()
            log.look_now()

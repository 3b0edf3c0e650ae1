"""The log's contract as a suite. A store's test file subclasses it and says how to make a handle to its log."""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import aclosing

import anyio
import anyio.lowlevel
import pytest

from millstream.engine import CommitFailed, Fenced, Log, LogLocked, LogRefused
from millstream.engine.commits.commit import Commit, Head
from tests.engine.stores.written import APP, READ_BYTES, append_all, commits, head_of, read_all, take


class LogConformance(ABC):
    """Every promise of `millstream.engine.stores.port.Log`, on a real store."""

    @abstractmethod
    def make(self) -> Log:
        """A new handle, not open yet, to this test's one log."""

    @abstractmethod
    def break_lock(self) -> None:
        """Make the store forget that the log is locked, as a network file system might."""

    @abstractmethod
    def traces(self) -> object:
        """What the store has put down, for comparing before and after."""

    @pytest.fixture(autouse=True)
    async def _close_all(self) -> AsyncIterator[None]:
        """Whatever a test leaves open is closed: a failed test must not keep a store's thread alive."""
        self._handles: list[Log] = []
        yield
        for log in self._handles:
            await log.close()

    def handle(self) -> Log:
        log = self.make()
        self._handles.append(log)
        return log

    async def test_a_new_log_is_empty(self) -> None:
        log = self.handle()
        await log.open(APP)
        assert await log.head() == Head()
        assert list(await log.read(0, READ_BYTES)) == []
        await log.close()

    async def test_what_was_appended_is_read_back_to_the_byte(self) -> None:
        log, written = self.handle(), commits(5)
        await log.open(APP)
        for commit in written:
            await log.append(commit)
        assert await read_all(log) == written
        assert await log.head() == head_of(written[-1])
        await log.close()

    async def test_what_was_appended_is_there_after_a_restart(self) -> None:
        log, written = self.handle(), commits(3)
        await log.open(APP)
        for commit in written:
            await log.append(commit)
        await log.close()
        again = self.handle()
        await again.open(APP)
        assert await read_all(again) == written
        await again.append(commits(1, head_of(written[-1]))[0])
        assert (await again.head()).number == 4
        await again.close()

    async def test_reading_starts_after_the_given_commit(self) -> None:
        log, written = self.handle(), commits(4)
        await log.open(APP)
        for commit in written:
            await log.append(commit)
        assert await read_all(log, after=2) == written[2:]
        assert await read_all(log, after=4) == []
        await log.close()

    @pytest.mark.parametrize("bytes_max", [1, 300, 1_000_000])
    async def test_pages_of_any_size_give_the_same_commits(self, bytes_max: int) -> None:
        log, written = self.handle(), commits(40)
        await log.open(APP)
        for commit in written:
            await log.append(commit)
        assert await read_all(log, bytes_max=bytes_max) == written
        await log.close()

    async def test_a_commit_without_events_keeps_the_position(self) -> None:
        log = self.handle()
        await log.open(APP)
        first = commits(1)[0]
        empty = commits(1, head_of(first), events=0)[0]
        await log.append(first)
        await log.append(empty)
        assert await log.head() == Head(2, 2, empty.recorded_at, empty.digest)
        await log.close()

    async def test_a_number_that_is_taken_is_fenced_and_changes_nothing(self) -> None:
        log, written = self.handle(), commits(2)
        await log.open(APP)
        for commit in written:
            await log.append(commit)
        with pytest.raises(Fenced) as raised:
            await log.append(written[1])
        assert (raised.value.commit, raised.value.head) == (2, 2)
        assert await read_all(log) == written
        await log.close()

    async def test_a_number_that_leaves_a_gap_is_fenced_and_changes_nothing(self) -> None:
        log, written = self.handle(), commits(3)
        await log.open(APP)
        await log.append(written[0])
        with pytest.raises(Fenced):
            await log.append(written[2])
        assert await read_all(log) == written[:1]
        await log.close()

    async def test_a_second_writer_is_locked_out_at_once(self) -> None:
        first, second = self.handle(), self.handle()
        await first.open(APP)
        with anyio.fail_after(2), pytest.raises(LogLocked):
            await second.open(APP)
        await second.close()
        await first.append(commits(1)[0])
        await first.close()

    async def test_the_lock_is_free_after_closing(self) -> None:
        first, second = self.handle(), self.handle()
        await first.open(APP)
        await first.close()
        await second.open(APP)
        assert await second.head() == Head()
        await second.close()

    async def test_a_stale_writer_is_fenced(self) -> None:
        stale, fresh = self.handle(), self.handle()
        await stale.open(APP)
        self.break_lock()
        await fresh.open(APP)
        mine, theirs = commits(1)[0], commits(1, events=3)[0]
        await fresh.append(theirs)
        with pytest.raises(Fenced):
            await stale.append(mine)
        assert await read_all(fresh) == [theirs]
        await stale.close()
        await fresh.close()

    async def test_another_applications_log_is_refused_by_name(self) -> None:
        log = self.handle()
        await log.open(APP)
        await log.close()
        other = self.handle()
        with pytest.raises(LogRefused, match=r"belongs to application 'conformance', not to 'other'"):
            await other.open("other")
        await other.close()
        await log.open(APP)
        await log.close()

    async def test_a_cancelled_append_is_either_there_or_not(self) -> None:
        log, written = self.handle(), commits(2)
        await log.open(APP)
        task = asyncio.create_task(log.append(written[0]))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        with contextlib.suppress(Fenced):
            await log.append(written[0])
        assert await read_all(log) == written[:1]
        await log.append(written[1])
        assert await read_all(log) == written
        await log.close()

    async def test_reading_goes_on_while_something_is_appended(self) -> None:
        log, written = self.handle(), commits(50)
        await log.open(APP)
        await log.append(written[0])

        async def append_rest() -> None:
            for commit in written[1:]:
                await log.append(commit)

        async with anyio.create_task_group() as group:
            group.start_soon(append_rest)
            found: list[Commit] = []
            while len(found) < 50:
                found += await log.read(len(found), 500)
                await anyio.lowlevel.checkpoint()
        assert found == written
        await log.close()

    async def test_closing_twice_is_allowed(self) -> None:
        log = self.handle()
        await log.open(APP)
        await log.close()
        await log.close()
        await log.open(APP)
        assert await log.head() == Head()

    # Probing.

    async def test_a_probe_of_an_empty_log_changes_nothing(self) -> None:
        log, written = self.handle(), commits(1)
        await log.open(APP)
        await log.probe()
        assert await log.head() == Head()
        assert await read_all(log) == []
        await log.append(written[0])
        assert await read_all(log) == written

    async def test_probes_between_commits_leave_no_gap_and_move_no_head(self) -> None:
        log, written = self.handle(), commits(4)
        await log.open(APP)
        for commit in written:
            await log.append(commit)
            for _ in range(3):
                await log.probe()
            assert await log.head() == head_of(commit)
        assert await read_all(log) == written
        await log.close()
        again = self.handle()
        await again.open(APP)
        assert await read_all(again) == written

    # Attaching.

    async def test_attaching_names_the_application_and_reads_what_is_there(self) -> None:
        writer, reader, written = self.handle(), self.handle(), commits(40)
        await writer.open(APP)
        await append_all(writer, written)
        await writer.close()
        assert await reader.attach() == "conformance"
        assert await reader.head() == head_of(written[-1])
        assert await read_all(reader) == written
        assert await read_all(reader, after=38, bytes_max=1) == written[38:]

    async def test_attaching_to_what_is_not_there_is_refused_and_makes_nothing(self) -> None:
        before = self.traces()
        for _ in range(2):
            with pytest.raises(LogRefused, match="there"):
                await self.handle().attach()
        assert self.traces() == before

    async def test_attaching_to_an_empty_log_finds_it_empty(self) -> None:
        writer, reader = self.handle(), self.handle()
        await writer.open(APP)
        assert await reader.attach() == "conformance"
        assert await reader.head() == Head()
        assert await read_all(reader) == []

    async def test_who_attached_sees_what_is_appended_later(self) -> None:
        writer, reader, written = self.handle(), self.handle(), commits(20)
        await writer.open(APP)
        await append_all(writer, written[:1])
        await reader.attach()
        for count in range(1, 20):
            assert await read_all(reader) == written[:count]
            await writer.append(written[count])
            assert await reader.head() == head_of(written[count])
        assert await read_all(reader) == written

    async def test_who_attached_while_nobody_wrote_sees_what_later_writers_append(self) -> None:
        reader, written = self.handle(), commits(6)
        for index in range(6):
            writer = self.handle()
            await writer.open(APP)
            await writer.append(written[index])
            if index == 0:
                await writer.close()
                await reader.attach()
            assert await reader.head() == head_of(written[index])
            assert await read_all(reader) == written[: index + 1]
            await writer.close()
            assert await reader.head() == head_of(written[index])
            assert await read_all(reader) == written[: index + 1]

    async def test_several_read_through_one_attached_handle_while_a_writer_comes(self) -> None:
        writer, reader, written = self.handle(), self.handle(), commits(30)
        await writer.open(APP)
        await append_all(writer, written[:10])
        await writer.close()
        await reader.attach()
        found: list[list[Commit]] = []

        async def follow() -> None:
            seen: list[Commit] = []
            while len(seen) < 30:
                seen += await reader.read(len(seen), 500)
                await anyio.lowlevel.checkpoint()
            found.append(seen)

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(follow)
            await writer.open(APP)
            await append_all(writer, written[10:])
        assert found == [written] * 3

    async def test_attaching_takes_no_lock_and_closing_it_frees_none(self) -> None:
        first, second, writer, rival = self.handle(), self.handle(), self.handle(), self.handle()
        await writer.open(APP)
        await writer.close()
        await first.attach()
        await second.attach()
        await writer.open(APP)
        await first.close()
        await second.close()
        with pytest.raises(LogLocked):
            await rival.open(APP)
        await writer.append(commits(1)[0])

    async def test_attaching_and_reading_leave_no_trace_on_a_log_that_is_closed(self) -> None:
        writer, reader = self.handle(), self.handle()
        await writer.open(APP)
        await append_all(writer, commits(3))
        await writer.close()
        before = self.traces()
        await reader.attach()
        assert len(await read_all(reader)) == 3
        await reader.head()
        assert self.traces() == before
        await reader.close()
        assert self.traces() == before

    async def test_attaching_and_reading_leave_no_trace_beside_a_writer(self) -> None:
        writer, reader = self.handle(), self.handle()
        await writer.open(APP)
        await append_all(writer, commits(3))
        before = self.traces()
        await reader.attach()
        assert len(await read_all(reader)) == 3
        await reader.close()
        assert self.traces() == before

    async def test_an_attached_log_takes_no_commits(self) -> None:
        writer, reader = self.handle(), self.handle()
        await writer.open(APP)
        await reader.attach()
        with pytest.raises(CommitFailed, match="not open for writing"):
            await reader.append(commits(1)[0])
        with pytest.raises(RuntimeError, match="not open for writing"):
            await reader.probe()
        assert await writer.head() == Head()

    async def test_a_closed_log_takes_no_commits(self) -> None:
        log = self.handle()
        await log.open(APP)
        await log.close()
        with pytest.raises(CommitFailed, match="not open for writing"):
            await log.append(commits(1)[0])
        await log.open(APP)
        assert await log.head() == Head()

    async def test_attaching_again_after_closing_is_allowed(self) -> None:
        writer, reader = self.handle(), self.handle()
        await writer.open(APP)
        await writer.append(commits(1)[0])
        for _ in range(2):
            await reader.attach()
            assert (await reader.head()).number == 1
            await reader.close()
            await reader.close()

    # Following.

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
        assert asyncio.all_tasks() == before
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

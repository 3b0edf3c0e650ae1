"""Writing a log, and whose turn it is to do so, as a suite."""

from __future__ import annotations

import asyncio
import contextlib

import anyio
import anyio.lowlevel
import pytest

from millstream.engine.commits.commit import Commit, Head
from millstream.engine.errors import CommitFailed, CommitsLost, Fenced, LogLocked, LogRefused
from millstream.engine.limits import COMMIT_BYTES_MIN
from millstream.engine.observers import Observers
from millstream.engine.stores.capabilities import Bounded
from millstream.engine.stores.turn import opened_in_turn
from millstream.engine.testing.stores.handles import LogHandles
from millstream.engine.testing.stores.written import (
    APP,
    READ_BYTES,
    append_all,
    commits,
    head_of,
    read_all,
    sized_commit,
)

__all__ = ["LogWriting"]


class LogWriting(LogHandles):
    """What `Log` promises to a writer."""

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

    async def test_a_body_that_is_too_large_for_the_store_is_refused_for_certain(self) -> None:
        log = self.handle()
        await log.open(APP)
        bytes_max = await self.bound(log)
        if bytes_max is None:
            pytest.skip("its store takes bodies of any size, or of more than a test should make")
        large, too_large = (sized_commit(size) for size in (bytes_max, 2 * bytes_max))
        with pytest.raises(CommitFailed):
            await log.append(too_large)
        assert await log.head() == Head()
        await log.append(large)
        assert await read_all(log) == [large]
        await log.append(commits(1, head_of(large))[0])
        assert (await log.head()).number == 2
        await log.close()

    async def test_a_store_with_a_bound_takes_the_smallest_commit_that_an_engine_can_be_set_to(self) -> None:
        log = self.handle()
        if not isinstance(log, Bounded) or log.body_bytes_max is None:
            pytest.skip("it has none")
        assert log.body_bytes_max >= COMMIT_BYTES_MIN

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

    # Settling.

    async def test_of_what_was_appended_it_is_said_that_it_is_durable(self) -> None:
        log, written = self.handle(), commits(3)
        await log.open(APP)
        await append_all(log, written[:1])
        assert await log.settle(written[0])
        await append_all(log, written[1:2])
        assert await log.settle(written[0])
        assert await log.settle(written[1])
        await log.append(written[2])
        assert await read_all(log) == written

    async def test_of_what_never_came_it_is_said_that_it_never_will_be_and_it_may_be_sent_again(self) -> None:
        log, written = self.handle(), commits(2)
        await log.open(APP)
        assert not await log.settle(written[0])
        assert await log.head() == Head()
        await append_all(log, written[:1])
        assert not await log.settle(written[1])
        await log.append(written[1])
        assert await read_all(log) == written

    async def test_where_another_commit_has_the_number_who_asks_is_fenced(self) -> None:
        log, written = self.handle(), commits(2)
        await log.open(APP)
        await append_all(log, written)
        for number in (1, 2):
            other = commits(1, head_of(written[0]) if number == 2 else None, events=3)[0]
            with pytest.raises(Fenced) as raised:
                await log.settle(other)
            assert (raised.value.commit, raised.value.head) == (number, 2)
        assert await read_all(log) == written

    async def test_a_log_that_ends_before_what_was_durable_has_lost_it(self) -> None:
        log, written = self.handle(), commits(3)
        await log.open(APP)
        await log.append(written[0])
        with pytest.raises(CommitsLost) as raised:
            await log.settle(written[2])
        assert (raised.value.commit, raised.value.head) == (2, 1)

    async def test_what_is_settled_after_a_cancelled_append_never_changes(self) -> None:
        log, written = self.handle(), commits(2)
        await log.open(APP)
        for turns in range(6):
            task = asyncio.create_task(log.append(written[0]))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            if await log.settle(written[0]):
                break
            assert await read_all(log) == []
        else:
            await log.append(written[0])
        assert await read_all(log) == written[:1]
        await log.append(written[1])
        await log.close()
        await log.open(APP)
        assert await read_all(log) == written

    async def test_closing_waits_for_an_append_that_nobody_waits_for(self) -> None:
        log, written = self.handle(), commits(1)
        await log.open(APP)
        task = asyncio.create_task(log.append(written[0]))
        for _ in range(3):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        await log.close()
        await log.open(APP)
        there = await read_all(log)
        assert there in ([], written)
        await log.probe()
        assert await read_all(log) == there

    # Whose turn it is.

    async def test_a_writer_says_where_it_is_until_it_lets_go(self) -> None:
        first, second, reader = self.handle(), self.handle(), self.handle()
        leadership = await first.open(APP, "tcp://127.0.0.1:1")
        assert (leadership.address, leadership.took_over) == ("tcp://127.0.0.1:1", False)
        assert leadership.is_held
        await reader.attach()
        assert [await first.leader(), await reader.leader()] == ["tcp://127.0.0.1:1"] * 2
        await first.close()
        assert await reader.leader() is None
        leadership = await second.open(APP)
        assert (leadership.address, leadership.took_over) == (None, False)
        assert await reader.leader() is None
        await second.close()
        await first.open(APP, "unix:///run/x")
        assert await reader.leader() == "unix:///run/x"

    async def test_who_waits_has_the_next_turn(self) -> None:
        first, second = self.handle(), self.handle()
        await first.open(APP)
        with pytest.raises(LogLocked):
            await opened_in_turn(second, APP, None, 0.0, Observers())
        async with anyio.create_task_group() as group:
            with anyio.fail_after(30):
                group.start_soon(opened_in_turn, second, APP, None, 60.0, Observers())
                for commit in commits(3):
                    await first.append(commit)
                await first.close()
        assert (await second.head()).number == 3
        await second.append(commits(1, await second.head())[0])

    async def test_a_writer_that_was_taken_over_settles_nothing_as_its_own(self) -> None:
        stale, fresh, written = self.handle(), self.handle(), commits(2)
        await stale.open(APP)
        await stale.append(written[0])
        self.break_lock()
        await fresh.open(APP)
        theirs = commits(1, head_of(written[0]), events=3)[0]
        await fresh.append(theirs)
        with pytest.raises(Fenced):
            await stale.settle(written[1])
        assert await read_all(fresh) == [written[0], theirs]

"""Reading a log beside the writer it, as a suite."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from millstream.engine.commits.commit import Commit, Head
from millstream.engine.errors import CommitFailed, LogLocked, LogRefused
from millstream.engine.testing.stores.handles import LogHandles
from millstream.engine.testing.stores.written import APP, append_all, commits, head_of, read_all

__all__ = ["LogAttaching"]


class LogAttaching(LogHandles):
    """What `Log.attach` promises."""

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

from __future__ import annotations

import anyio
import pytest

from millstream.engine.commits.commit import Head
from millstream.engine.commits.decoded import DecodedCommit
from millstream.engine.read.queue import CommitQueue
from tests.support import settled

pytestmark = pytest.mark.anyio


def commit(number: int, size_bytes: int = 10) -> DecodedCommit:
    return DecodedCommit(Head(number), number - 1, (), frozenset(), size_bytes)


def filled(*sizes: int, commits_max: int = 4, bytes_max: int = 100) -> CommitQueue:
    queue = CommitQueue(commits_max, bytes_max)
    for number, size in enumerate(sizes, start=1):
        queue.put(commit(number, size))
    return queue


def test_commits_are_taken_in_the_order_in_which_they_were_put() -> None:
    queue = filled(10, 10)
    assert len(queue) == 2
    assert queue.first == commit(1)
    assert [queue.take(), queue.take()] == [commit(1), commit(2)]
    assert not queue
    assert filled().first is None


@pytest.mark.parametrize(
    ("sizes", "size", "fits"),
    [
        ((), 1_000, True),  # one is always taken, or it never could be
        ((1_000,), 1, False),
        ((50,), 50, True),
        ((50,), 51, False),
        ((1, 1, 1), 1, True),
        ((1, 1, 1, 1), 1, False),
    ],
)
def test_there_is_room_for_so_many_and_so_many_bytes(sizes: tuple[int, ...], size: int, fits: bool) -> None:
    assert filled(*sizes).has_room(commit(9, size)) is fits


def test_what_was_taken_or_dropped_takes_no_room() -> None:
    queue = filled(60, 40)
    queue.take()
    assert queue.has_room(commit(3, 60))
    queue.put(commit(3, 60))
    queue.clear()
    assert len(queue) == 0
    assert queue.has_room(commit(4, 100))


async def test_who_waits_for_room_goes_on_when_half_of_it_is_free() -> None:
    queue, waited = filled(10, 10, 10, 10), anyio.Event()

    async def wait() -> None:
        await queue.room_for(commit(5))
        waited.set()

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await settled()
        queue.take()
        await settled()
        assert not waited.is_set()
        queue.take()
        await settled()
        assert waited.is_set()


async def test_who_waits_for_room_goes_on_when_all_is_dropped() -> None:
    queue, waited = filled(1_000), anyio.Event()

    async def wait() -> None:
        await queue.room_for(commit(2))
        waited.set()

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await settled()
            assert not waited.is_set()
            queue.clear()
    assert waited.is_set()


async def test_who_finds_room_does_not_wait() -> None:
    queue = filled(10)
    with anyio.fail_after(5):
        await queue.room_for(commit(2))
    assert len(queue) == 1

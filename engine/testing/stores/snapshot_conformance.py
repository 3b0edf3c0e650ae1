"""The contract of stores for snapshots as a suite. A store's test file subclasses it and says how to make a handle."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence

import pytest

from millstream.engine.commits.commit import Head
from millstream.engine.errors import LogLocked
from millstream.engine.snapshots.part import Sealing, Snapshot
from millstream.engine.stores.errors import SnapshotsLocked
from millstream.engine.stores.snapshot_port import SnapshotStore

__all__ = ["SnapshotConformance", "begin", "head", "pieces", "read", "replace", "sealed", "take"]


def head(number: int) -> Head:
    """A head with so many commits, ten events each."""
    return Head(number, number * 10, f"2026-01-01T00:00:00.{number:06}Z", number.to_bytes(32, "big"))


def pieces(count: int, text: str = "a") -> list[bytes]:
    """So many pieces, each different."""
    return [f"counts={text} {index}".encode() + bytes(index) for index in range(count)]


def sealed(part: str, number: int, made: Sequence[bytes], notes: bytes = b"") -> Snapshot:
    """The snapshot that pieces make up, of a part at a commit."""
    sealing = Sealing()
    for piece in made:
        sealing.add(piece)
    return sealing.seal(part, head(number), f"{part} fingerprint", notes)


async def begin(store: SnapshotStore, part: str, made: Sequence[bytes]) -> None:
    """Add all pieces of a snapshot, and don't finish it."""
    for index, piece in enumerate(made):
        await store.add(part, index, piece)


async def take(store: SnapshotStore, part: str, number: int, made: Sequence[bytes], notes: bytes = b"") -> Snapshot:
    """Add all pieces of a snapshot, and finish it."""
    await begin(store, part, made)
    snapshot = sealed(part, number, made, notes)
    await store.finish(snapshot)
    return snapshot


async def replace(store: SnapshotStore, part: str, number: int, made: Sequence[bytes], notes: bytes = b"") -> Snapshot:
    """Take one, and drop all others of its part."""
    snapshot = await take(store, part, number, made, notes)
    await store.drop([each for each in await store.kept() if each.part == part and each != snapshot])
    return snapshot


async def read(store: SnapshotStore, snapshot: Snapshot) -> list[bytes]:
    """All pieces of a snapshot."""
    found: list[bytes] = []
    while len(found) < snapshot.pieces and (some := await store.pieces(snapshot, len(found))):
        found += some
    return found


class SnapshotConformance(ABC):
    """Every promise of `millstream.engine.stores.snapshot_port.SnapshotStore`, on a real store."""

    @abstractmethod
    def make(self) -> SnapshotStore:
        """A new handle, not open yet, to this test's one store."""

    @abstractmethod
    async def held(self, store: SnapshotStore) -> int:
        """How many pieces the store holds, of all snapshots."""

    @pytest.fixture(autouse=True)
    async def _close_all(self) -> AsyncIterator[None]:
        self._handles: list[SnapshotStore] = []
        yield
        for store in self._handles:
            await store.close()

    async def opened(self) -> SnapshotStore:
        store = self.make()
        self._handles.append(store)
        await store.open()
        return store

    async def attached(self) -> SnapshotStore:
        store = self.make()
        self._handles.append(store)
        await store.attach()
        return store

    async def again(self, store: SnapshotStore) -> SnapshotStore:
        """The same store, closed and opened."""
        await store.close()
        return await self.opened()

    async def test_a_new_store_has_no_snapshots(self) -> None:
        store = await self.opened()
        assert list(await store.kept()) == []
        assert list(await store.pieces(sealed("view A", 1, pieces(3)), 0)) == []

    @pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 100])
    async def test_a_snapshot_is_read_back_to_the_byte(self, count: int) -> None:
        store, made = await self.opened(), pieces(count)
        snapshot = await take(store, "view A", 3, made, b"\x00notes")
        assert list(await store.kept()) == [snapshot]
        assert await read(store, snapshot) == made
        store = await self.again(store)
        assert list(await store.kept()) == [snapshot]
        assert await read(store, snapshot) == made

    async def test_a_snapshot_is_read_from_any_piece_on(self) -> None:
        store, made = await self.opened(), pieces(40)
        snapshot = await take(store, "view A", 3, made)
        for start in (0, 1, 15, 16, 39):
            some = await store.pieces(snapshot, start)
            assert some
            assert list(some) == made[start : start + len(some)]
        assert list(await store.pieces(snapshot, 40)) == []

    async def test_one_at_a_time_takes_snapshots_whatever_handle_it_has_and_whether_that_is_open(self) -> None:
        store, other = await self.opened(), self.make()
        async with store.taking():
            for each in (other, store):
                with pytest.raises(SnapshotsLocked, match="are being taken already, and by one at a time: wait until"):
                    async with each.taking():
                        pytest.fail("two take snapshots")
            snapshot = await take(store, "view A", 3, pieces(2))
        async with other.taking():
            with pytest.raises(LogLocked):
                async with store.taking():
                    pytest.fail("two take snapshots")
        async with store.taking():
            assert list(await store.kept()) == [snapshot]

    async def test_what_several_handles_have_taken_one_after_another_is_never_mixed(self) -> None:
        handles = [await self.opened(), await self.opened()]
        async with handles[0].taking():
            await begin(handles[0], "view A", pieces(5, "left over"))
        for number in range(1, 5):
            store, other = handles[number % 2], handles[1 - number % 2]
            made = {part: pieces(20 + number, f"{part} {number}") for part in ("model A", "view A")}
            async with store.taking():
                snapshots = [await replace(store, part, number, made[part]) for part in made]
            assert list(await other.kept()) == snapshots
            for snapshot in snapshots:
                assert await read(other, snapshot) == made[snapshot.part]
            assert await self.held(store) == 2 * (20 + number)

    async def test_a_snapshot_that_is_not_finished_is_not_there(self) -> None:
        store = await self.opened()
        await begin(store, "view A", pieces(5))
        assert list(await store.kept()) == []
        store = await self.again(store)
        assert list(await store.kept()) == []

    async def test_the_snapshot_before_stays_whole_until_the_next_one_is(self) -> None:
        store, made = await self.opened(), pieces(20)
        snapshot = await take(store, "view A", 3, made)
        await begin(store, "view A", pieces(25, "b"))
        for _ in range(2):
            assert list(await store.kept()) == [snapshot]
            assert await read(store, snapshot) == made
            store = await self.again(store)

    async def test_the_next_one_at_the_same_commit_leaves_the_one_before_whole_until_it_is_finished(self) -> None:
        store, made = await self.opened(), pieces(20)
        snapshot = await take(store, "view A", 3, made)
        await begin(store, "view A", pieces(20, "b"))
        assert await read(store, snapshot) == made
        await store.finish(later := sealed("view A", 3, pieces(20, "b"), b"notes"))
        assert list(await store.kept()) == [later, snapshot]
        assert await read(store, later) == pieces(20, "b")
        assert await read(store, snapshot) == made

    async def test_the_same_one_again_is_kept_once(self) -> None:
        store, made = await self.opened(), pieces(20)
        for _ in range(3):
            snapshot = await take(store, "view A", 3, made)
        assert list(await store.kept()) == [snapshot]
        assert await read(store, snapshot) == made
        assert await self.held(store) == 20

    async def test_several_of_a_part_are_kept_the_latest_first_until_they_are_dropped_with_their_pieces(self) -> None:
        store = await self.opened()
        second = await take(store, "view A", 9, pieces(5, "b"))
        first = await take(store, "view A", 3, pieces(20))
        third = await take(store, "view A", 70, pieces(7, "c"))
        other = await take(store, "view B", 5, pieces(1))
        for _ in range(2):
            assert list(await store.kept()) == [third, second, first, other]
            assert await read(store, first) == pieces(20)
            assert await read(store, second) == pieces(5, "b")
            store = await self.again(store)
        await store.drop([first, third, sealed("view C", 1, pieces(1))])
        for _ in range(2):
            assert list(await store.kept()) == [second, other]
            assert list(await store.pieces(first, 0)) == []
            assert await read(store, second) == pieces(5, "b")
            assert await self.held(store) == 6
            store = await self.again(store)
        await store.drop([first])

    async def test_snapshots_without_pieces_follow_those_with_some(self) -> None:
        store = await self.opened()
        await take(store, "view A", 3, pieces(20))
        await begin(store, "view A", pieces(3, "b"))
        empty = await replace(store, "view A", 4, [])
        assert list(await store.kept()) == [empty]
        assert await read(store, empty) == []
        assert await self.held(store) == 0
        full = await take(store, "view A", 5, pieces(2, "c"))
        assert await read(store, full) == pieces(2, "c")

    async def test_what_was_left_unfinished_does_no_harm_and_does_not_pile_up(self) -> None:
        store = await self.opened()
        for attempt in range(5):
            await begin(store, "view A", pieces(10 - attempt, f"left {attempt}"))
            await begin(store, "view B", pieces(3, f"left {attempt}"))
            assert await self.held(store) <= 13
            if attempt % 2:
                store = await self.again(store)
        snapshot = await take(store, "view A", 3, pieces(2))
        assert await read(store, snapshot) == pieces(2)
        await take(store, "view B", 3, pieces(2))
        assert await self.held(store) == 4

    async def test_parts_do_not_touch_each_other(self) -> None:
        store = await self.opened()
        names = ["ledger", "model A", "view A", "view Ä"]
        taken = [await take(store, name, 3, pieces(20, name)) for name in names]
        assert list(await store.kept()) == taken
        for snapshot, name in zip(taken, names, strict=True):
            assert await read(store, snapshot) == pieces(20, name)
        later = await replace(store, "view A", 4, pieces(3, "later"))
        assert list(await store.kept()) == [taken[0], taken[1], later, taken[3]]
        assert await read(store, taken[1]) == pieces(20, "model A")

    async def test_two_parts_are_taken_side_by_side(self) -> None:
        store = await self.opened()
        one, two = pieces(10, "one"), pieces(10, "two")
        for index in range(10):
            await store.add("model A", index, one[index])
            await store.add("view A", index, two[index])
        await store.finish(first := sealed("model A", 1, one))
        await store.finish(second := sealed("view A", 2, two))
        assert await read(store, first) == one
        assert await read(store, second) == two

    async def test_large_pieces_and_notes_are_kept_whole(self) -> None:
        store = await self.opened()
        made = [bytes(range(256)) * 4_000, b"", b"\x00" * 100_000]
        snapshot = await take(store, "view A", 3, made, bytes(range(256)) * 1_000)
        store = await self.again(store)
        assert list(await store.kept()) == [snapshot]
        assert await read(store, snapshot) == made

    async def test_a_store_that_is_doubted_is_read_on_and_takes_the_next_snapshots(self) -> None:
        store = await self.opened()
        before = await take(store, "view A", 3, pieces(20))
        store.doubt("a piece is not what was stored")
        assert await read(store, before) == pieces(20)
        assert list(await store.kept()) == [before]
        after = [await replace(store, part, 4, pieces(5, part)) for part in ("view A", "view B")]
        assert list(await store.kept()) == after
        store = await self.again(store)
        assert list(await store.kept()) == after
        assert await read(store, after[1]) == pieces(5, "view B")

    async def test_closing_twice_or_without_opening_is_allowed(self) -> None:
        store = self.make()
        await store.close()
        await store.open()
        assert list(await store.kept()) == []
        await store.close()
        await store.close()

    # Attaching.

    async def test_who_attached_reads_what_is_there_and_goes_without_a_trace(self) -> None:
        store = await self.opened()
        taken = [await take(store, "view A", 3, pieces(40), b"notes"), await take(store, "view B", 4, pieces(2))]
        beside = await self.attached()
        assert list(await beside.kept()) == taken
        assert await read(beside, taken[0]) == pieces(40)
        assert await read(beside, taken[1]) == pieces(2)
        await beside.close()
        assert list(await store.kept()) == taken
        assert await self.held(store) == 42

    async def test_who_attached_after_closing_reads_the_same(self) -> None:
        store = await self.opened()
        taken = await take(store, "view A", 3, pieces(40))
        await store.close()
        beside = await self.attached()
        assert list(await beside.kept()) == [taken]
        assert await read(beside, taken) == pieces(40)

    async def test_what_is_read_while_the_next_one_is_taken_is_the_old_one_or_nothing(self) -> None:
        store = await self.opened()
        old = await take(store, "view A", 3, pieces(40))
        beside = await self.attached()
        assert list(await beside.kept()) == [old]
        begun = list(await beside.pieces(old, 0))
        new = await replace(store, "view A", 4, pieces(50, "b"))
        rest = list(await beside.pieces(old, len(begun)))
        assert [*begun, *rest] == pieces(40)[: len(begun) + len(rest)]
        assert await read(store, new) == pieces(50, "b")
        await beside.close()
        again = await self.attached()
        assert list(await again.kept()) == [new]
        assert await read(again, new) == pieces(50, "b")

    async def test_a_store_that_rests_goes_on_with_the_next_call(self) -> None:
        store = await self.opened()
        first = await take(store, "view A", 3, pieces(4))
        await store.rest()
        assert await read(store, first) == pieces(4)
        await store.rest()
        await store.rest()
        async with store.taking():
            await begin(store, "view A", made := pieces(5, "b"))
            await store.rest()
            await store.finish(second := sealed("view A", 4, made))
        await store.rest()
        assert list(await store.kept()) == [second, first]
        assert await read(store, second) == made
        await store.rest()
        await store.drop([first])
        assert await self.held(store) == 5
        await store.rest()
        await store.close()
        assert list(await (await self.opened()).kept()) == [second]

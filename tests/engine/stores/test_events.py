from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from millstream.engine import InvalidMessage, LogCorrupt, MemoryLog
from millstream.engine.commits.commit import Head
from millstream.engine.stores import events
from millstream.engine.upkeep import StoredEvent, attached, stored_events
from tests.engine.upkeep.chains import FIVE, deposit, in_file, in_memory, sealed, with_commit
from tests.support import Row, sealed_rows

pytestmark = pytest.mark.anyio


async def positions(log: MemoryLog, **wanted: Any) -> list[int]:
    return [event.position async for event in stored_events(log, **wanted)]


async def test_events_are_given_as_they_are_stored_in_order(tmp_path: Path) -> None:
    path = await in_file(tmp_path / "log.db", FIVE)
    async with attached(path) as (log, _):
        found = [event async for event in stored_events(log)]
    assert [(event.position, event.commit, event.key) for event in found] == [
        (1, 1, "ann"),
        (2, 1, "bob"),
        (3, 2, "ann"),
        (4, 4, "Zoë"),
        (5, 4, "Zoë"),
        (6, 4, "Zoë"),
        (7, 5, "bob"),
    ]
    assert found[3] == StoredEvent(
        position=4,
        commit=4,
        recorded_at="2026-01-01T00:00:03.000000Z",
        type="Deposited",
        key="Zoë",
        command_id=None,
        data=msgspec.Raw('{"type":"Deposited","account":"Zoë","amount":4}'.encode()),
        command="Deposit",
    )


async def test_each_event_has_its_own_key_and_its_commands_id() -> None:
    transfer = Row(
        "Transfer",
        "ann",
        "t-1",
        keys=["ann", None],
        events=msgspec.Raw(b'[{"type":"Withdrawn","account":"ann"},{"type":"Deposited"}]'),
    )
    log = in_memory(sealed([deposit("ann", 1), transfer]))
    found = [event async for event in stored_events(log)]
    assert [(event.position, event.type, event.key, event.command_id) for event in found] == [
        (1, "Deposited", "ann", None),
        (2, "Withdrawn", "ann", "t-1"),
        (3, "Deposited", None, "t-1"),
    ]


async def test_events_are_chosen_by_position_key_and_type() -> None:
    log = in_memory(FIVE)
    assert await positions(log, after=2) == [3, 4, 5, 6, 7]
    assert await positions(log, key="bob") == [2, 7]
    assert await positions(log, key="bob", after=2) == [7]
    assert await positions(log, tag="Deposited", key="Zoë") == [4, 5, 6]
    assert await positions(log, tag="Withdrawn") == []


@pytest.mark.parametrize(
    "sizes", [[], [0], [1], [0, 0, 3, 0], [2, 0, 0, 5, 1, 0, 1], [1] * 70, [0] * 20 + [2] + [0] * 9]
)
async def test_the_first_event_after_any_position_is_found_however_commits_are_filled(sizes: list[int]) -> None:
    log = in_memory(sealed(*([deposit("ann", *range(size))] for size in sizes)))
    count = sum(sizes)
    for after in range(count + 1):
        assert await positions(log, after=after) == list(range(after + 1, count + 1))
    with pytest.raises(
        InvalidMessage, match=f"position {count + 1} is above the head of the log, which is at {count}:"
    ):
        await positions(log, after=count + 1)


async def test_few_commits_are_read_before_the_first_event_that_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "PAGE_BYTES", 1)

    class Counting(MemoryLog):
        reads = 0

        async def read(self, after: int, bytes_max: int) -> Any:
            self.reads += 1
            return await super().read(after, bytes_max)

    log = Counting(in_memory(sealed(*([deposit("ann", number)] for number in range(59)))).store)
    assert [event.position async for event in stored_events(log, after=57)] == [58, 59]
    assert log.reads <= 6 + 4  # halving 59 commits, then one at a time to the end


async def test_a_commit_that_is_damaged_elsewhere_is_shown_and_one_that_cannot_be_read_is_named() -> None:
    assert await positions(in_memory(with_commit(1, digest=b"wrong"))) == [1, 2, 3, 4, 5, 6, 7]
    with pytest.raises(LogCorrupt) as raised:
        await positions(in_memory(with_commit(3, body=b"[nonsense]")))
    assert raised.value.commit == 4


async def test_keys_that_are_too_few_are_a_damaged_commit() -> None:
    body: Any = [Row("Transfer", "ann", keys=["ann"], events=msgspec.Raw(b'[{"type":"A"},{"type":"B"}]'))]
    with pytest.raises(LogCorrupt):
        await positions(in_memory([sealed_rows(Head(), "2026-01-01T00:00:00.000000Z", body)]))

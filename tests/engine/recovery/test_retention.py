"""Which snapshots of a part are kept: so many of today's code, spread over the past, and those of one other code."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from millstream.engine.commits.commit import Head
from millstream.engine.recovery.retention import spare
from millstream.engine.snapshots.part import Snapshot


def taken(position: int, fingerprint: str = "today", number: int | None = None, mark: bytes = b"") -> Snapshot:
    head = Head(position if number is None else number, position, "", b"")
    return Snapshot("view A", head, fingerprint, 1, f"{fingerprint} {head.number} {position}".encode() + mark)


def lives(positions: Sequence[int], most: int) -> list[int]:
    """What is kept in the end, where one was taken at each of these."""
    kept: list[Snapshot] = []
    for position in positions:
        kept.insert(0, taken(position))
        dropped = spare(kept, "today", most)
        kept = [each for each in kept if each not in dropped]
    return [each.head.position for each in kept]


def test_no_more_than_so_many_are_kept_the_further_back_the_further_apart() -> None:
    assert lives(range(10, 1001, 10), 1) == [1000]
    assert lives(range(10, 1001, 10), 2) == [1000, 990]
    kept = lives(range(10, 10_001, 10), 6)
    assert len(kept) == 6
    ages = [10_000 - position for position in kept]
    assert ages[1] == 10
    assert 10 * ages[-1] > 10_000
    assert all(older <= 10 * younger for younger, older in pairwise(ages[1:]))


@given(st.lists(st.integers(1, 10_000), unique=True, min_size=1).map(sorted), st.integers(1, 8))
def test_the_latest_is_always_kept_and_never_more_than_so_many(positions: list[int], most: int) -> None:
    kept = lives(positions, most)
    assert kept[0] == positions[-1]
    assert len(kept) == min(most, len(positions))


def test_of_one_commit_the_last_is_kept() -> None:
    later, earlier = taken(10, mark=b"2"), taken(10, mark=b"1")
    assert spare([later, earlier], "today", 4) == [earlier]


def test_those_of_one_other_code_stay_of_a_third_the_latest_and_those_of_older_code_go() -> None:
    tomorrow, yesterday = (
        [taken(50, "tomorrow"), taken(30, "tomorrow")],
        [taken(40, "yesterday"), taken(39, "yesterday")],
    )
    today, long_ago = [taken(60), taken(20), taken(10)], [taken(5, "long ago")]
    kept = sorted([*tomorrow, *yesterday, *today, *long_ago], key=lambda each: -each.head.number)
    assert spare(kept, "today", 2) == [yesterday[1], today[2], long_ago[0]]
    assert spare(kept, "tomorrow", 1) == [yesterday[1], tomorrow[1], long_ago[0]]


def test_what_is_of_no_use_goes() -> None:
    first, second = taken(10), taken(20)
    assert spare([second, first], "today", 4, {second.checksum}) == [second]

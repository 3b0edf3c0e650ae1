from __future__ import annotations

from contextlib import suppress

import pytest

from millstream.engine.errors import LimitReached
from millstream.engine.server.shares import Shares


def taken(shares: Shares, connection: str) -> int:
    """Takes one after another until it gets none."""
    try:
        while True:
            shares.take(connection)
    except LimitReached:
        return shares.of(connection)


def test_one_alone_has_half_and_whoever_comes_next_half_of_what_is_left() -> None:
    shares = Shares("follows_max", 100)
    assert [taken(shares, name) for name in "abcdef"] == [50, 25, 13, 6, 3, 2]
    assert shares.total == 99


def test_ten_that_take_in_turns_have_an_eleventh_each_and_an_eleventh_is_left() -> None:
    shares = Shares("view_waiters_max", 11_000)
    for _ in range(2_000):
        for name in "abcdefghij":
            with suppress(LimitReached):
                shares.take(name)
    assert {shares.of(name) for name in "abcdefghij"} == {1_000}
    assert taken(shares, "next") == 500


def test_what_is_given_back_is_there_for_all_and_one_that_has_nothing_is_forgotten() -> None:
    shares = Shares("asked_bytes_max", 100)
    with shares.holding("a", 60):
        with pytest.raises(
            LimitReached, match="this connection has its share of the limit asked_bytes_max=100: 60"
        ) as its:
            shares.take("a", 1)
        with pytest.raises(LimitReached, match="the limit asked_bytes_max=100 is reached") as full:
            shares.take("b", 41)
        assert (its.value.held, full.value.held) == (60, None)
        shares.take("b", 40)
    shares.give_back("b", 30)
    assert (shares.of("a"), shares.of("b"), shares.total) == (0, 10, 10)
    shares.give_back("b", 10)
    assert not shares._held


def test_where_somebody_else_says_that_all_is_taken_only_shares_are_said_here() -> None:
    shares = Shares("watches_max", 2, says_full=False)
    for name in ("a", "b", "c", "c"):
        shares.take(name)
    assert (shares.total, shares.of("c")) == (4, 2)

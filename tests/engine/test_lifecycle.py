"""Life cycles are tables: what each allows, and that the code goes no other way."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import pytest

from millstream.engine.lifecycle import OPENED_ONCE, LifeCycle, Moves, Phase, Turn
from millstream.engine.read import actor, feed
from millstream.engine.server import connection_life
from millstream.engine.write import status

TABLES: dict[str, tuple[Moves[Any, Any], StrEnum, StrEnum]] = {
    "engine, replica, link": (OPENED_ONCE, Phase.NEW, Phase.CLOSED),
    "writer": (status.MOVES, status.WriterStatus.DECIDING, status.WriterStatus.STOPPED),
    "view": (actor.MOVES, actor.ViewStatus.OPENING, actor.ViewStatus.CLOSED),
    "feed": (feed.MOVES, feed.FeedStatus.FOLLOWING, feed.FeedStatus.STOPPED),
    "connection": (
        connection_life.MOVES,
        connection_life.ConnectionStatus.OPEN,
        connection_life.ConnectionStatus.GONE,
    ),
}
every_table = pytest.mark.parametrize(("moves", "first", "last"), TABLES.values(), ids=TABLES)


def test_a_status_moves_as_its_table_says_and_no_other_way() -> None:
    life = LifeCycle(OPENED_ONCE, Phase.NEW)
    went = [(life.on(Turn.CLOSE), str(life.status)), (life.on(Turn.OPEN), str(life.status))]
    assert went == [(False, Phase.NEW), (True, Phase.OPENING)]
    with pytest.raises(RuntimeError, match="what is 'opening' can't take 'open'"):
        life.must(Turn.OPEN)
    life.must(Turn.OPENED)
    assert str(life.status) == Phase.OPEN


@every_table
def test_every_status_has_a_row_is_reached_and_leads_to_the_end(
    moves: Moves[Any, Any], first: StrEnum, last: StrEnum
) -> None:
    assert moves.keys() == set(type(first))

    def reached_from(status: StrEnum) -> set[StrEnum]:
        found, new = {status}, [status]
        while new:
            for to in moves[new.pop()].values():
                if to not in found:
                    found.add(to)
                    new.append(to)
        return found

    assert reached_from(first) == set(type(first))
    assert all(last in reached_from(status) for status in type(first))
    assert moves[last] == {}, "the end is the end"


@every_table
def test_every_event_means_something_somewhere(moves: Moves[Any, Any], first: StrEnum, last: StrEnum) -> None:
    events: set[StrEnum] = {event for row in moves.values() for event in row}
    kind = type(next(iter(events)))
    assert events == set(kind)


def test_a_view_may_fall_behind_and_fault_at_any_time_before_its_end() -> None:
    status, event = actor.ViewStatus, actor.ViewEvent
    behind = {each for each, row in actor.MOVES.items() if row.get(event.FELL_BEHIND) is status.CATCHING_UP}
    assert behind == {status.LIVE, status.CATCHING_UP, status.JOINING}
    faulting = {each for each, row in actor.MOVES.items() if row.get(event.FAULTED) is status.FAULTED}
    assert faulting == behind | {status.OPENING}


def test_a_connection_may_be_ended_twice_and_lost_at_any_time() -> None:
    status, event = connection_life.ConnectionStatus, connection_life.ConnectionEvent
    ending = {each for each, row in connection_life.MOVES.items() if row.get(event.ENDS) is status.ENDING}
    assert ending == {status.OPEN, status.ENDING}
    lost = {each for each, row in connection_life.MOVES.items() if row.get(event.LOST) is status.GONE}
    assert lost == {*status} - {status.GONE}

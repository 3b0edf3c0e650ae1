"""When it is worth another attempt, and when those who wait are told."""

from __future__ import annotations

from itertools import islice

import pytest

from millstream.engine.client import ClientLimits
from millstream.engine.client.backoff import Outage
from millstream.engine.client.randomness import command_ids, delays
from millstream.engine.errors import DefinitionError


def test_waits_double_up_to_the_longest_one() -> None:
    assert list(islice(delays(0.5, 3.0, chance=lambda: 0.0), 6)) == [0.5, 1.0, 2.0, 3.0, 3.0, 3.0]


def test_chance_shortens_a_wait_by_up_to_a_half_and_the_next_one_starts_from_the_whole() -> None:
    assert list(islice(delays(1.0, 10.0, chance=lambda: 1.0), 4)) == [0.5, 1.0, 2.0, 4.0]
    assert all(0.5 < next(delays(1.0, 1.0)) <= 1.0 for _ in range(100))


def test_two_clients_never_give_the_same_id() -> None:
    one, other = command_ids(), command_ids()
    ids = [*islice(one, 3), *islice(other, 3)]
    assert len(set(ids)) == 6
    assert [name.rpartition("-")[2] for name in ids] == ["1", "2", "3", "1", "2", "3"]
    assert {len(name) for name in ids} == {26}


def outage() -> Outage:
    return Outage(ClientLimits(reconnect_seconds_max=10.0), wait=lambda: 3.0)


def test_the_first_attempt_is_made_at_once_and_later_ones_until_the_time_is_over() -> None:
    down = outage()
    assert [down.wait(now) for now in (100.0, 100.1, 103.1, 106.1, 109.1)] == [0.0, 3.0, 3.0, 3.0, None]


def test_once_those_who_waited_were_told_the_next_call_begins_anew() -> None:
    down = outage()
    assert [down.wait(now) for now in (100.0, 109.0, 109.1, 109.2)] == [0.0, None, 0.0, 3.0]


def test_a_connection_that_has_not_proved_to_be_one_does_not_end_the_outage() -> None:
    down = outage()
    assert [down.wait(now) for now in (100.0, 104.0, 106.0)] == [0.0, 3.0, 3.0]
    assert down.wait(108.0) is None
    assert down.wait(108.0) == 0.0
    down.end()
    assert down.wait(120.0) == 0.0


def test_a_connection_that_stood_for_longer_than_one_takes_to_make_ends_it_without_a_reply() -> None:
    down = outage()
    assert down.wait(100.0) == 0.0
    down.connected(100.5)
    down.lost("it closed the connection", 104.0)
    assert down.wait(104.0) == 3.0  # still the same one
    down.connected(107.0)
    down.lost("it closed the connection", 118.0)
    assert [down.wait(now) for now in (118.0, 120.0)] == [0.0, 3.0]
    assert down.problem == "it closed the connection"


def test_limits_are_positive_and_do_not_contradict_each_other() -> None:
    with pytest.raises(DefinitionError, match="in_flight_max must be positive, not 0"):
        ClientLimits(in_flight_max=0)
    with pytest.raises(DefinitionError, match="retry_seconds_min is larger than retry_seconds_max"):
        ClientLimits(retry_seconds_min=2.0)

"""Outcomes of several calls, in order, however they come."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from millstream.engine import EngineClosed, Overloaded
from millstream.engine.client.outcomes import Outcomes
from tests.support import settled

pytestmark = pytest.mark.anyio


def promises(outcomes: Outcomes[int, str], count: int) -> list[asyncio.Future[int]]:
    made = [asyncio.get_running_loop().create_future() for _ in range(count)]
    for index, promise in enumerate(made):
        outcomes.add((promise, f"call {index}"))
    return made


async def test_outcomes_are_in_the_order_of_the_calls_and_errors_among_them() -> None:
    outcomes: Outcomes[int, str] = Outcomes()
    made = promises(outcomes, 3)
    full = Overloaded(1, 1)
    made[2].set_result(2)
    made[1].set_exception(full)
    async with anyio.create_task_group() as group:
        group.start_soon(outcomes.come_down_to, 0)
        await settled()
        assert outcomes.outcomes == []
        made[0].set_result(0)
    assert outcomes.outcomes == [0, full, 2]
    assert outcomes.underway == 0


async def test_one_waits_only_until_few_enough_are_under_way() -> None:
    outcomes: Outcomes[int, str] = Outcomes()
    made = promises(outcomes, 3)
    with anyio.move_on_after(5) as scope:
        made[0].set_result(0)
        await outcomes.come_down_to(2)
    assert not scope.cancelled_caught
    assert (outcomes.outcomes, outcomes.underway) == ([0], 2)


async def test_at_the_end_what_is_not_known_is_given_up_under_its_own_name() -> None:
    outcomes: Outcomes[int, str] = Outcomes()
    made = promises(outcomes, 2)
    made[1].set_result(1)
    outcomes.end(lambda index, given: EngineClosed(f"{given}, {index}"))
    late, done = outcomes.outcomes
    assert (str(late), done) == (str(EngineClosed("call 0, 0")), 1)
    assert made[0].cancelled()
    assert outcomes.underway == 0


async def test_an_error_that_is_none_of_ours_is_raised() -> None:
    outcomes: Outcomes[int, str] = Outcomes()
    promises(outcomes, 1)[0].set_exception(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await outcomes.come_down_to(0)

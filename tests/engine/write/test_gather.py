"""Whether a commit waits for those who were just answered: when it pays, and how rarely where it does not."""

from __future__ import annotations

import itertools

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.engine import Engine, Limits
from millstream.engine.write.gather import COMMANDS_MAX, Gather
from tests.shop import Add, shop
from tests.support import ScriptedLog, settled, start

FOR_EVER = Limits(gather_ms_max=60_000, slice_ms_max=60_000)


def test_it_lasts_until_all_are_back() -> None:
    gather = Gather(1.0)
    gather.landed(answered=3, ready=2, now=10.0)
    assert gather.lasts(ready=4, now=10.9)
    assert not gather.lasts(ready=5, now=10.9)
    assert not gather.lasts(ready=0, now=10.9), "it is over once"


def test_it_lasts_no_longer_than_it_may() -> None:
    gather = Gather(1.0)
    gather.landed(answered=3, ready=2, now=10.0)
    assert gather.lasts(ready=4, now=10.99)
    assert not gather.lasts(ready=4, now=11.0)


@pytest.mark.parametrize(("answered", "ready"), [(1, 0), (0, 1), (COMMANDS_MAX, 1), (1, COMMANDS_MAX)])
def test_nobody_waits_for_a_lone_caller_or_for_very_many(answered: int, ready: int) -> None:
    gather = Gather(1.0)
    gather.landed(answered=answered, ready=ready, now=10.0)
    assert not gather.lasts(ready=0, now=10.0)


def test_where_they_do_not_come_back_it_is_tried_less_and_less_often() -> None:
    gather, tried = Gather(1.0), []
    for commit in range(20_000):
        gather.landed(answered=2, ready=1, now=float(commit * 10))
        if gather.lasts(ready=1, now=commit * 10.0):
            tried.append(commit)
            assert not gather.lasts(ready=1, now=commit * 10.0 + 1)
    between = [later - before for before, later in itertools.pairwise(tried)]
    assert between == [2**n + 1 for n in range(1, 13)] + [4097] * (len(between) - 12)
    assert len(tried) == 15


@given(st.lists(st.booleans(), max_size=60))
def test_who_came_back_is_waited_for_again_at_once(came: list[bool]) -> None:
    gather = Gather(1.0)
    for back in [*came, True, True]:
        while True:  # commits for which it is not tried
            gather.landed(answered=2, ready=0, now=0.0)
            if gather.lasts(ready=0, now=0.0):
                break
        assert not gather.lasts(ready=2 if back else 1, now=1.0)
    gather.landed(answered=2, ready=0, now=0.0)
    assert gather.lasts(ready=0, now=0.0)


@pytest.mark.anyio
async def test_two_who_go_on_and_on_share_each_commit() -> None:
    log = ScriptedLog()
    async with Engine(shop, log=log, limits=FOR_EVER) as engine:

        async def go_on() -> None:
            for _ in range(20):
                await engine.execute(Add("a", 1))

        log.hold()
        async with anyio.create_task_group() as group:
            group.start_soon(go_on)
            await settled()  # the first one's commit is written while the other one's command waits
            group.start_soon(go_on)
            await settled()
            log.release()
    assert [commit.number for commit in log.commits] == list(range(1, 22))
    assert engine.stats().writer.batch_mean > 1.9


@pytest.mark.anyio
async def test_a_command_is_not_held_up_by_who_does_not_come_back_once_the_engine_closes() -> None:
    log = ScriptedLog()
    async with anyio.create_task_group() as group:
        async with Engine(shop, log=log, limits=FOR_EVER) as engine:
            log.hold()
            first = start(group, engine.execute(Add("a", 1)))
            await settled()
            second = start(group, engine.execute(Add("a", 1)))
            await settled()
            log.release()
            await settled()
            assert (first.kind, second.kind) == ("Receipt", "waiting")
        assert second.kind == "Receipt"


@pytest.mark.anyio
async def test_a_command_waits_for_the_time_and_no_longer() -> None:
    log = ScriptedLog()
    async with Engine(shop, log=log, limits=Limits(gather_ms_max=1.0)) as engine, anyio.create_task_group() as group:
        log.hold()
        start(group, engine.execute(Add("a", 1)))
        await settled()
        second = start(group, engine.execute(Add("a", 1)))
        await settled()
        log.release()
        with anyio.fail_after(10):
            while second.kind == "waiting":
                await anyio.lowlevel.checkpoint()
    assert second.kind == "Receipt"
    assert [commit.number for commit in log.commits] == [1, 2]

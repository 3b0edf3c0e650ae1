"""Whether a commit waits for those who were just answered: where it pays, and how rarely where it does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from random import Random
from typing import NamedTuple

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.engine import Engine, Limits
from millstream.engine.write.gather import COMMANDS_MAX, Gather, Phase
from tests.shop import Add, shop
from tests.support import ScriptedLog, settled, start


class Outcome(NamedTuple):
    """What became of the commands: how many in a second, and how long each of the later half took, in order of that."""

    rate: float
    seconds: list[float]
    #: Of 1,000 commits, how many waited.
    waited: float

    @property
    def mean(self) -> float:
        return sum(self.seconds) / len(self.seconds)

    @property
    def p99(self) -> float:
        return self.seconds[len(self.seconds) * 99 // 100]


#: When the next command comes of a caller that was answered: after so many seconds, or never.
Back = Callable[[], float | None]


def commits_of(
    gather: Gather, took: Callable[[int], float], arrivals: list[float], back: Back, commits: int
) -> Outcome:
    """A writer with one commit in flight, on a clock of its own."""
    coming, queue, seconds = sorted(arrivals), list[float](), list[float]()
    now, waited = 0.0, 0

    def arrive() -> None:
        while coming and coming[0] <= now:
            queue.append(heappop(coming))

    for number in range(1, commits + 1):  # noqa: B007 - how many there were
        arrive()
        if not queue:
            if not coming:
                break
            now = coming[0]
            arrive()
        is_late = False
        while gather.lasts(len(queue), now):
            is_late, now = True, min(gather.until, coming[0] if coming else gather.until)
            arrive()
        batch, queue = queue, []
        now += (lasted := took(len(batch)))
        arrive()
        seconds += (now - since for since in batch)
        waited += is_late
        gather.landed(len(batch), len(queue), now, lasted)
        for _ in batch:
            if (after := back()) is not None:
                heappush(coming, now + after)
    return Outcome(len(seconds) / now, sorted(seconds[len(seconds) // 2 :]), 1_000 * waited / number)


def both(
    make_took: Callable[[], Callable[[int], float]], arrivals: list[float], make_back: Callable[[], Back], commits: int
) -> Iterator[Outcome]:
    """Without, and with a millisecond at most."""
    for seconds_max in (0.0, 0.001):
        yield commits_of(Gather(seconds_max), make_took(), arrivals, make_back(), commits)


def go_on(seconds: float) -> Callable[[], Back]:
    """Callers that each send their next command about so long after an answer."""

    def make() -> Back:
        random = Random(7)
        return lambda: seconds * random.uniform(0.5, 1.5)

    return make


def fixed(each: float, more: float) -> Callable[[], Callable[[int], float]]:
    """A store that takes so long for a commit, and so much longer for each command; one in ten takes longer."""

    def make() -> Callable[[int], float]:
        random = Random(5)
        return lambda commands: (each + more * commands) * (1 if random.random() > 0.1 else random.uniform(1, 4))

    return make


def test_callers_that_come_back_soon_share_each_commit_and_are_answered_earlier() -> None:
    without, waiting = both(fixed(0.0006, 0.000004), [0.0] * 25 + [0.0003] * 25, go_on(0.00015), 6_000)
    assert waiting.rate > 1.2 * without.rate
    assert waiting.mean < without.mean
    assert waiting.p99 <= without.p99
    assert waiting.waited > 700


@pytest.mark.parametrize("rate", [300, 3_000, 10_000, 30_000, 100_000])
def test_commands_that_come_by_themselves_are_not_held_up(rate: int) -> None:
    random, moments, now = Random(rate), list[float](), 0.0
    for _ in range(200_000):
        moments.append(now := now + random.expovariate(rate))
    without, waiting = both(fixed(0.0005, 0.000002), moments, lambda: lambda: None, 200_000)
    assert len(without.seconds) == len(waiting.seconds)
    assert waiting.mean < 1.05 * without.mean
    assert waiting.p99 < 1.05 * without.p99
    assert waiting.waited < 20


@settings(max_examples=20)
@given(st.integers(2, 80), st.floats(0, 0.003), st.floats(0.0001, 0.003))
def test_however_long_callers_think_and_commits_take_it_is_never_much_worse(
    callers: int, thinks: float, takes: float
) -> None:
    begin = [number * 0.00001 for number in range(callers)]
    without, waiting = both(fixed(takes, 0.000003), begin, go_on(thinks), 4_000)
    assert waiting.rate > 0.93 * without.rate


@pytest.mark.parametrize(("answered", "ready"), [(1, 0), (0, 1), (COMMANDS_MAX, 1), (1, COMMANDS_MAX)])
def test_nothing_waits_for_a_lone_caller_or_for_very_many(answered: int, ready: int) -> None:
    gather = gathering(Gather(1.0))
    gather.landed(answered, ready, 10.0, 1.0)
    assert not gather.lasts(0, 10.0)


def test_it_lasts_until_all_are_back_and_no_longer_than_it_may() -> None:
    gather = gathering(Gather(1.0))
    gather.landed(3, 2, 10.0, 8.0)
    assert gather.lasts(4, 10.5), "it begins when it is first asked"
    assert gather.lasts(4, 11.4)
    assert not gather.lasts(5, 11.4)
    assert not gather.lasts(0, 11.4), "it is over once"
    gather.landed(3, 2, 20.0, 1.0)
    assert gather.lasts(4, 20.0)
    assert not gather.lasts(4, 21.0)


def test_it_ends_where_they_do_not_come_back_any_more() -> None:
    gather = gathering(Gather(1.0))
    for number in range(12):
        assert gather.phase is Phase.GATHERS
        gather.landed(2, 1, number * 10.0, 8.0)
        assert gather.lasts(1, number * 10.0)
        assert not gather.lasts(1, number * 10.0 + 1)
    assert gather.phase is Phase.PAUSES


def gathering(gather: Gather) -> Gather:
    gather.phase, gather._left, gather._commit_seconds = Phase.GATHERS, 1_000_000, 1e9
    return gather


@pytest.mark.anyio
async def test_two_who_go_on_and_on_share_each_commit() -> None:
    log = ScriptedLog()
    async with Engine(shop, log=log, limits=Limits(gather_ms_max=200)) as engine:
        gathering(engine._writer._gather)

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
async def test_a_command_is_not_held_up_once_the_engine_closes() -> None:
    log = ScriptedLog()
    async with anyio.create_task_group() as group:
        async with Engine(shop, log=log, limits=Limits(gather_ms_max=60_000)) as engine:
            gathering(engine._writer._gather)
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
    async with Engine(shop, log=log) as engine, anyio.create_task_group() as group:
        gathering(engine._writer._gather)
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

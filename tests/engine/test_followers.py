"""What an engine and a replica owe to whatever follows the log, and what a follower that is broken can't do to others."""

from __future__ import annotations

import asyncio
from pathlib import Path

import anyio
import pytest

from millstream.engine import Engine, Replica
from millstream.engine.commits.commit import Head
from millstream.engine.commits.decoded import DecodedCommit
from tests.shop import Add, StockOf, shop
from tests.support import StoreBroke, settled

pytestmark = pytest.mark.anyio


class Counting:
    """A follower that counts, and fails where it is told to."""

    task_name = "counting"

    def __init__(self, fails_at: str = "") -> None:
        self.fails_at = fails_at
        self.offered: list[int] = []
        self.stopped = anyio.Event()

    def start(self, head: Head) -> None: ...

    def offer(self, decoded: DecodedCommit) -> None:
        self._look("offer")
        self.offered.append(decoded.head.number)

    def resync(self, head: Head) -> None: ...

    def recede(self, head: Head) -> None: ...

    async def run(self) -> None:
        await self.stopped.wait()

    def stop(self) -> None:
        self._look("stop")
        self.stopped.set()

    async def close(self) -> None:
        self._look("close")

    def _look(self, step: str) -> None:
        if step == self.fails_at:
            raise StoreBroke(f"at {step}")


@pytest.mark.parametrize("step", ["offer", "stop", "close"])
async def test_a_follower_that_raises_keeps_nobody_from_an_answer_or_from_the_log(step: str, tmp_path: Path) -> None:
    engine = Engine(shop, log=tmp_path / "shop.db")
    engine.followers.insert(0, Counting(step))
    with pytest.raises(StoreBroke, match=f"at {step}"):  # noqa: PT012 - closing raises it
        async with engine:
            with anyio.fail_after(5):
                receipt = await engine.execute(Add("a", 1))
            assert receipt.position == 1
    assert engine.status == "closed"
    async with Engine(shop, log=tmp_path / "shop.db") as again:
        assert await again.ask(StockOf("a")) == 1


@pytest.mark.parametrize("step", ["stop", "close"])
async def test_a_follower_of_a_replica_that_raises_leaves_nothing_open(step: str, tmp_path: Path) -> None:
    async with Engine(shop, log=tmp_path / "shop.db"):
        pass
    replica = Replica(shop, log=tmp_path / "shop.db")
    replica.followers.insert(0, Counting(step))
    with pytest.raises(StoreBroke, match=f"at {step}"):
        async with replica:
            pass
    assert replica.status == "closed"
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("millstream-view")]


async def test_a_replica_offers_each_commit_to_all_that_follow(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    async with Engine(shop, log=path) as engine:
        await engine.execute(Add("a", 1))
        replica, counting = Replica(shop, log=path), Counting()
        replica.followers.append(counting)
        async with replica:
            for _ in range(3):
                receipt = await engine.execute(Add("a", 1))
                await replica.ask(StockOf("a"), after=receipt, timeout=20)
            await settled()
    assert counting.offered == [2, 3, 4]

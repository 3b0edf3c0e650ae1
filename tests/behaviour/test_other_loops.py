"""Used on another event loop than it was opened on: noticed before anything is taken, and said by name."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import anyio.from_thread
import anyio.to_thread
import pytest

from millstream.engine import Engine, EngineClosed, Replica, WrongLoop
from millstream.engine.client import Client
from millstream.engine.server import Server
from tests.shop import Add, StockOf, shop

T = TypeVar("T")

ON = "an event loop of thread 'MainThread'"
COMMANDS = [Add("a", 1)] * 3


def in_another_thread(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """What it comes to on a loop of a thread of its own; None if it never ends."""
    outcomes: list[T | BaseException] = []

    def run() -> None:
        try:
            outcomes.append(asyncio.run(work()))
        except BaseException as error:  # noqa: BLE001 - raised below
            outcomes.append(error)

    thread = threading.Thread(target=run, name="another", daemon=True)
    thread.start()
    thread.join(10)
    assert outcomes, "it hangs"
    if isinstance(outcomes[0], BaseException):
        raise outcomes[0]
    return outcomes[0]


@asynccontextmanager
async def opened(kind: str, folder: Path) -> AsyncIterator[Any]:
    """One of those that have a home; ``a`` is in stock once."""
    async with Engine(shop, log=folder / "shop.db") as engine:
        await engine.execute(Add("a", 1))
        if kind == "engine":
            yield engine
        elif kind == "replica":
            async with Replica(shop, log=folder / "shop.db", writer=engine) as replica:
                yield replica
        else:
            async with Server(engine, listen=["tcp://127.0.0.1:0"]) as server, Client(server.addresses[0]) as client:
                yield client


async def watched(gateway: Any) -> Any:
    async with gateway.watch(StockOf("a")) as answers:
        return await anext(answers)


CALLS: dict[str, Callable[[Any], Coroutine[Any, Any, Any]]] = {
    "execute": lambda gateway: gateway.execute(Add("a", 1)),
    "in time": lambda gateway: gateway.execute(Add("a", 1), timeout=5),
    "named": lambda gateway: gateway.execute(Add("a", 1), command_id="one"),
    "execute_many": lambda gateway: gateway.execute_many(COMMANDS),
    "ask": lambda gateway: gateway.ask(StockOf("a")),
    "wait": lambda gateway: gateway.ask(StockOf("a"), after=1),
    "answer": lambda gateway: gateway.answer(StockOf("a")),
    "watch": watched,
    "close": lambda gateway: gateway.__aexit__(None, None, None),
}
#: Answered from memory without an await.
AT_ONCE = {"ask", "wait"}


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["engine", "replica", "client"])
async def test_another_thread_is_told_whose_loop_it_needs_and_nothing_happens(kind: str, tmp_path: Path) -> None:
    async with opened(kind, tmp_path) as gateway:
        for name, call in CALLS.items():
            with pytest.raises(WrongLoop) as raised:
                in_another_thread(lambda call=call: call(gateway))  # type: ignore[misc]
            assert raised.value.what.startswith(f"the {kind} of "), name
            assert raised.value.opened_on == f"{ON} that runs"
            assert raised.value.used_on == "another event loop of thread 'another'"
        assert await gateway.ask(StockOf("a")) == 1
        receipt = await gateway.execute(Add("a", 1))
        assert (receipt.position, receipt.version) == (2, 2)


@contextmanager
def two_loops() -> Iterator[tuple[asyncio.AbstractEventLoop, asyncio.AbstractEventLoop]]:
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    try:
        yield first, second
    finally:
        for loop in (first, second):
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()


@pytest.mark.parametrize("kind", ["engine", "replica", "client"])
def test_another_loop_of_the_same_thread_is_told_so_and_the_first_one_goes_on(kind: str, tmp_path: Path) -> None:
    with two_loops() as (first, second):
        block = opened(kind, tmp_path)
        gateway = first.run_until_complete(block.__aenter__())
        for name, call in CALLS.items():
            if kind != "client" and name in AT_ONCE:
                continue
            with pytest.raises(WrongLoop) as raised:
                second.run_until_complete(call(gateway))
            assert raised.value.opened_on == f"{ON} that does not run now", name
            assert raised.value.used_on == "another event loop of thread 'MainThread'"
        if kind != "client":  # what needs no waiting is as true there: nothing moves meanwhile
            assert second.run_until_complete(gateway.ask(StockOf("a"))) == 1
        assert first.run_until_complete(gateway.execute(Add("a", 1))).position == 2
        first.run_until_complete(block.__aexit__(None, None, None))


def test_a_watch_that_is_taken_to_another_loop_says_so(tmp_path: Path) -> None:
    for kind in ("engine", "client"):
        with two_loops() as (first, second):
            block = opened(kind, tmp_path / kind)
            (tmp_path / kind).mkdir()
            gateway = first.run_until_complete(block.__aenter__())
            watch = gateway.watch(StockOf("a"))
            answers = first.run_until_complete(watch.__aenter__())
            with pytest.raises(WrongLoop):
                second.run_until_complete(anext(answers))
            assert first.run_until_complete(anext(answers)).answer == 1
            first.run_until_complete(watch.__aexit__(None, None, None))
            first.run_until_complete(block.__aexit__(None, None, None))


@pytest.mark.anyio
async def test_what_needs_no_await_is_refused_in_another_thread_too() -> None:
    async with Engine(shop, log="memory:") as engine:
        with pytest.raises(WrongLoop, match="no event loop of thread 'AnyIO worker thread'"):
            await anyio.to_thread.run_sync(engine.preview, Add("a", 1))
        with pytest.raises(WrongLoop):
            in_another_thread(engine.replay_parked)


@pytest.mark.anyio
async def test_a_server_is_entered_on_the_loop_of_its_engine() -> None:
    async with Engine(shop, log="memory:") as engine:
        server = Server(engine, listen=["tcp://127.0.0.1:0"])
        with pytest.raises(WrongLoop):
            in_another_thread(server.__aenter__)
        async with server:
            assert server.addresses


@pytest.mark.anyio
async def test_before_it_is_open_and_afterwards_every_loop_hears_that_it_is_not_open() -> None:
    engine = Engine(shop, log="memory:")
    for state in ("not open yet", "closed"):
        with pytest.raises(EngineClosed, match=state):
            in_another_thread(lambda: engine.execute(Add("a", 1)))
        with pytest.raises(EngineClosed, match=state):
            in_another_thread(lambda: engine.ask(StockOf("a")))
        if state != "closed":
            async with engine:
                pass


@pytest.mark.anyio
async def test_another_thread_gets_to_the_loop_by_asyncio_or_anyio() -> None:
    async with Engine(shop, log="memory:") as engine:
        loop = asyncio.get_running_loop()

        def by_asyncio() -> int:
            receipt = asyncio.run_coroutine_threadsafe(engine.execute(Add("a", 1)), loop).result(10)
            return asyncio.run_coroutine_threadsafe(engine.ask(StockOf("a"), after=receipt), loop).result(10)

        def by_anyio() -> int:
            receipt = anyio.from_thread.run(engine.execute, Add("a", 1))
            assert receipt.position == 2
            return anyio.from_thread.run(engine.ask, StockOf("a"))

        assert await anyio.to_thread.run_sync(by_asyncio) == 1
        assert await anyio.to_thread.run_sync(by_anyio) == 2

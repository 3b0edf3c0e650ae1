"""The client for scripts: the same calls from a thread without a loop."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager

import pytest
from anyio.from_thread import start_blocking_portal

from millstream.engine import Answered, Engine, MemoryLog, Metadata, Receipt
from millstream.engine.client import SyncClient
from millstream.engine.errors import ConnectionLost, EngineClosed, InvalidMessage, Rejected
from millstream.engine.server import Server
from millstream.engine.stores.port import Log
from tests.handlers.test_answers import Hold, theatre
from tests.shop import Add, Note, Notes, StockOf, Take, shop
from tests.support import ScriptedLog


@asynccontextmanager
async def _served(log: Log) -> AsyncIterator[str]:
    async with Engine(shop, log=log) as engine, Server(engine, listen=["tcp://127.0.0.1:0"]) as server:
        yield str(server.addresses[0])


@contextmanager
def served() -> Iterator[str]:
    """A server in a thread of its own."""
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(_served(MemoryLog())) as address:
        yield address


def test_a_script_executes_and_asks_without_await() -> None:
    with served() as address, SyncClient(address) as engine:
        receipt = engine.execute(Add("a", 3), command_id="one", metadata=Metadata(actor="ann"), expected_version=0)
        assert receipt == Receipt(1, 1, 1, command_id="one", version=1)
        assert engine.ask(StockOf("a"), after=receipt) == 3
        assert engine.answer(StockOf("a"), after=receipt) == Answered(3, 1)
        stock, notes = engine.ask_all(StockOf("a"), Notes(), after=receipt)
        assert (stock, notes) == (3, ())
        assert engine.answer_all(iter([Notes(), StockOf("a")])) == Answered(((), 3), 1)
        first, second = engine.execute_many((each for each in (Take("a", 5), Add("a", 1))), command_ids=iter("xy"))
        assert isinstance(first, Rejected)
        assert isinstance(second, Receipt)
        assert second.command_id == "y"


def test_errors_are_those_of_the_engine() -> None:
    with served() as address, SyncClient(address, name_commands=True) as engine:
        with pytest.raises(Rejected, match="out_of_stock: not 5 of a"):
            engine.execute(Take("a", 5))
        with pytest.raises(InvalidMessage, match="position 9 is above the head of the log, which is at 0"):
            engine.ask(StockOf("a"), after=9)
        with pytest.raises(InvalidMessage, match="an id for each command"):
            engine.execute_many([Add("a", 1)], command_ids="x")
        assert engine.execute(Add("a", 1), timeout=5.0, wait=False).position == 1


def test_a_script_gets_what_a_command_promises_and_again_when_it_sends_it_again() -> None:
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(_theatre()) as address,
        SyncClient(address) as engine,
    ):
        seats: tuple[int, ...] = engine.execute(Hold("a", 2), command_id="h").answer
        (again,) = engine.execute_many([Hold("a", 2)], command_ids=["h"])
    assert seats == (1, 2)
    assert isinstance(again, Receipt)
    assert (again.answer, again.repeated) == ((1, 2), True)


@asynccontextmanager
async def _theatre() -> AsyncIterator[str]:
    async with Engine(theatre, log="memory:") as engine, Server(engine, listen=["tcp://127.0.0.1:0"]) as server:
        yield str(server.addresses[0])


def test_a_watch_is_a_block_with_answers_in_it() -> None:
    with served() as address, SyncClient(address) as engine, engine.watch(Notes(), every=True) as answers:
        assert next(answers) == Answered((), 0)
        engine.execute(Note("x"))
        assert next(answers) == Answered(("x",), 1)
        threading.Timer(0.01, lambda: engine.execute(Note("y"))).start()
        for answered in answers:
            assert answered.answer == ("x", "y")
            break


def test_many_threads_may_use_one_client() -> None:
    with served() as address, SyncClient(address) as engine, ThreadPoolExecutor(8) as threads:
        receipts = list(threads.map(lambda n: engine.execute(Add(f"item {n}", 1)), range(100)))
        assert sorted(receipt.position for receipt in receipts) == list(range(1, 101))


def test_outside_of_its_block_it_takes_nothing() -> None:
    with served() as address:
        engine = SyncClient(address)
        with pytest.raises(EngineClosed, match="not open yet"):
            engine.ask(StockOf("a"))
        with engine:
            engine.execute(Add("a", 1))
        with pytest.raises(EngineClosed, match="the engine is closed"):
            engine.execute(Add("a", 1))
        with pytest.raises(EngineClosed), engine.watch(StockOf("a")):
            pass
        with pytest.raises(EngineClosed, match="the engine is closed"), engine:
            pass


def test_where_nobody_is_entering_says_so_and_leaves_no_thread_behind() -> None:
    before = set(threading.enumerate())
    with pytest.raises(ConnectionLost), SyncClient("tcp://127.0.0.1:1"):
        pass
    assert set(threading.enumerate()) <= before


@pytest.fixture
def _interruptible() -> Iterator[None]:
    """A program that was started in the background may ignore what the keyboard says."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
def test_an_interrupted_call_is_cancelled() -> None:
    log = ScriptedLog()
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(_served(log)) as address,
        SyncClient(address) as engine,
    ):
        portal.call(log.hold)
        sent, again = engine._client.link._calls.sent, threading.Event()

        def interrupt() -> None:
            while not sent:
                again.wait(0.01)
            os.kill(os.getpid(), signal.SIGINT)

        def execute() -> None:
            interrupting.start()
            engine.execute(Add("a", 1))

        interrupting = threading.Thread(target=interrupt)
        with pytest.raises(KeyboardInterrupt):
            execute()
        interrupting.join()
        assert engine.ask(StockOf("a")) == 0
        assert [call.promise.done() for call in engine._client.link._calls.sent.values()] == [True]
        portal.call(log.release)
        assert engine.execute(Add("a", 1)).position == 2

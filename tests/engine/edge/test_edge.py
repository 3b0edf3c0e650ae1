"""Middleware around what callers ask for: the same in process, on the socket and over HTTP, and around nothing else."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from msgspec.structs import replace

from millstream.engine import (
    Answered,
    DefinitionError,
    Engine,
    InvalidMessage,
    Limits,
    Metadata,
    NotYetVisible,
    Receipt,
    Rejected,
    RemoteError,
    Replica,
)
from millstream.engine.client import Client
from millstream.engine.edge import Ask, Asking, Edge, Execute, Executing, Middleware
from millstream.engine.server import Server, Tokens
from millstream.engine.web import WebApp
from tests.engine.web.asking import serving
from tests.shop import Add, Everything, Note, Notes, StockOf, Take, shop

pytestmark = pytest.mark.anyio

TOKENS = Tokens(["reader:a token for reading", "writer:a token for writing"])


class Seen(Middleware):
    """Keeps what passes, under a name."""

    def __init__(self, name: str, seen: list[Any]) -> None:
        self.name, self.seen = name, seen

    async def execute(self, asked: Executing, proceed: Execute) -> Receipt[Any]:
        self.seen.append((self.name, type(asked.command).__name__, asked.role))
        await anyio.lowlevel.checkpoint()
        receipt = await proceed(asked)
        self.seen.append((self.name, receipt.position))
        return receipt

    async def ask(self, asked: Asking, proceed: Ask) -> Answered[Any]:
        self.seen.append((self.name, type(asked.query).__name__, asked.role, asked.is_watch))
        return await proceed(asked)


class Signed(Middleware):
    """Lets nobody in who does not say who they are, and knows them by another name."""

    async def execute(self, asked: Executing, proceed: Execute) -> Receipt[Any]:
        actor = None if asked.metadata is None else asked.metadata.actor
        if actor is None:
            raise Rejected("who_are_you")
        return await proceed(replace(asked, metadata=Metadata(actor=f"user:{actor}")))


class Tenant(Middleware):
    """Turns every question into that of its own item."""

    async def ask(self, asked: Asking, proceed: Ask) -> Answered[Any]:
        if isinstance(asked.query, Everything):
            raise Rejected("too_much")
        if isinstance(asked.query, StockOf):
            asked = replace(asked, query=StockOf(f"north/{asked.query.item}"))
        return await proceed(asked)


class Doubled(Middleware):
    async def ask(self, asked: Asking, proceed: Ask) -> Answered[Any]:
        answered = await proceed(asked)
        return Answered(answered.answer * 2, answered.position)


async def test_they_are_passed_in_order_and_on_the_way_back_the_other_way_round() -> None:
    seen: list[Any] = []
    async with Engine(shop, log="memory:") as engine:
        edge = Edge(engine, [Seen("outer", seen), Seen("inner", seen)])
        await edge.execute(Add("a", 1))
        assert await edge.ask(StockOf("a"), after=1) == 1
    assert seen == [
        ("outer", "Add", None),
        ("inner", "Add", None),
        ("inner", 1),
        ("outer", 1),
        ("outer", "StockOf", None, False),
        ("inner", "StockOf", None, False),
    ]


async def test_what_is_refused_or_changed_there_is_so_on_every_way_in(tmp_path: Path) -> None:
    async with Engine(shop, log="memory:") as engine:
        edge = Edge(engine, [Signed(), Tenant()])
        ann = Metadata(actor="ann")
        async with (
            Server(edge, listen=[f"unix://{tmp_path}/shop.sock"]),
            Client(f"unix://{tmp_path}/shop.sock") as client,
            serving(WebApp(shop, edge), engine) as web,
        ):
            for here in (edge, client):
                with pytest.raises(Rejected, match="who_are_you"):
                    await here.execute(Note("x"))
                await here.execute(Note("x"), metadata=ann)
                await here.execute(Add("north/a", 1), metadata=ann)
                with pytest.raises(Rejected, match="too_much"):
                    await here.ask(Everything())
            await web.execute("Note", {"text": "x"}, 409)
            told = await web.execute("Note", {"text": "x"}, Millstream_Actor="ann")
            assert await edge.ask(StockOf("a")) == await client.ask(StockOf("a")) == 2
            assert (await web.ask("StockOf?item=a")).json() == 2
            await web.ask("Everything", 409)
            assert (await web.client.get("/watch/Everything")).status_code == 409
            actors = {each.about.actor async for each in _until(engine, told.json()["position"])}
            assert actors == {"user:ann"}


async def _until(engine: Engine, position: int) -> Any:
    async for happened in engine.follow():
        yield happened
        if happened.about.position >= position:
            return


async def test_they_know_the_role_of_the_caller(tmp_path: Path) -> None:
    seen: list[Any] = []
    async with Engine(shop, log="memory:") as engine:
        edge = Edge(engine, [Seen("s", seen)])
        async with (
            Server(edge, listen=[f"unix://{tmp_path}/shop.sock"], tokens=TOKENS),
            Client(f"unix://{tmp_path}/shop.sock", token="a token for reading") as reader,
            Client(f"unix://{tmp_path}/shop.sock", token="a token for writing") as writer,
            serving(WebApp(shop, edge, tokens=TOKENS), engine) as web,
        ):
            await writer.execute(Add("a", 1))
            await reader.ask(StockOf("a"))
            async with reader.watch(StockOf("a")) as answers:
                assert (await anext(answers)).answer == 1
            await writer.execute_many([Add("a", 1)])
            await web.execute("Add", {"item": "a", "count": 1}, Authorization="Bearer a token for writing")
            await web.ask("StockOf?item=a", Authorization="Bearer a token for reading")
            await edge.ask(StockOf("a"))
    assert [each[1:] for each in seen if len(each) > 2] == [
        ("Add", "writer"),
        ("StockOf", "reader", False),
        ("StockOf", "reader", True),
        ("Add", "writer"),
        ("Add", "writer"),
        ("StockOf", "reader", False),
        ("StockOf", None, False),
    ]


async def test_a_watch_is_let_in_once_and_asks_what_the_middleware_made_of_the_question() -> None:
    async with Engine(shop, log="memory:") as engine:
        edge = Edge(engine, [Tenant()])
        await engine.execute(Add("north/a", 3))
        async with edge.watch(StockOf("a")) as answers:
            assert (await anext(answers)).answer == 3
            await engine.execute(Add("north/a", 1))
            assert (await anext(answers)).answer == 4
        with pytest.raises(Rejected, match="too_much"):
            async with edge.watch(Everything()):
                pass


async def test_an_answer_that_is_changed_can_not_be_watched() -> None:
    async with Engine(shop, log="memory:") as engine:
        edge = Edge(engine, [Doubled()])
        await engine.execute(Add("a", 3))
        assert await edge.ask(StockOf("a")) == 6
        with pytest.raises(DefinitionError, match=r"refuse it, by asked\.is_watch"):
            async with edge.watch(StockOf("a")):
                pass


async def test_many_commands_keep_their_order_though_each_waits_as_long_as_it_likes() -> None:
    class Slow(Middleware):
        async def execute(self, asked: Executing, proceed: Execute) -> Receipt[Any]:
            assert isinstance(asked.command, Note)
            for _ in range(int(asked.command.text) % 7):
                await anyio.lowlevel.checkpoint()
            if asked.command.text.endswith("3"):
                raise Rejected("three")
            return await proceed(asked)

    async with Engine(shop, log="memory:", limits=Limits(mailbox_commands_max=5)) as engine:
        edge = Edge(engine, [Slow()])
        told = await edge.execute_many([Note(str(n)) for n in range(100)], command_ids=[f"n{n}" for n in range(100)])
        assert [n for n, each in enumerate(told) if isinstance(each, Rejected)] == list(range(3, 100, 10))
        notes = await engine.ask(Notes(), after=engine.position)
        assert notes == tuple(str(n) for n in range(100) if n % 10 != 3)
        again = await edge.execute_many([Note("0")], command_ids=["n0"])
        assert isinstance(again[0], Receipt)
        assert again[0].repeated
        with pytest.raises(InvalidMessage):
            await edge.execute_many([Note("0")], command_ids=[])
        late = await edge.execute_many([Note("0"), Note("1")], timeout=0)
        assert [type(each).__name__ for each in late] == ["DeadlineExceeded"] * 2


async def test_many_that_are_cancelled_leave_nothing_behind() -> None:
    entered, never = anyio.Event(), anyio.Event()

    class Stuck(Middleware):
        async def execute(self, asked: Executing, proceed: Execute) -> Receipt[Any]:
            entered.set()
            await never.wait()
            return await proceed(asked)

    async with Engine(shop, log="memory:") as engine:
        edge = Edge(engine, [Stuck()])
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(edge.execute_many, [Note("x")])
            await entered.wait()
            tasks.cancel_scope.cancel()
        assert engine.position == 0


async def test_what_is_no_error_of_ours_is_the_servers_fault_and_takes_nobody_down(tmp_path: Path) -> None:
    class Broken(Middleware):
        async def execute(self, asked: Executing, proceed: Execute) -> Receipt[Any]:
            raise ZeroDivisionError("a secret")

    async with Engine(shop, log="memory:") as engine:
        edge = Edge(engine, [Broken()])
        async with serving(WebApp(shop, edge), engine) as web:
            told = await web.execute("Note", {"text": "x"}, 500)
            assert "secret" not in told.text
            await web.ask("StockOf?item=a")
        with pytest.raises(ZeroDivisionError):
            await edge.execute_many([Note("x")])


async def test_a_replica_has_an_edge_of_its_own(tmp_path: Path) -> None:
    async with (
        Engine(shop, log=tmp_path / "shop.db") as engine,
        Replica(shop, log=tmp_path / "shop.db", writer=engine) as replica,
    ):
        edge = Edge(replica, [Signed()])
        with pytest.raises(Rejected, match="who_are_you"):
            await edge.execute(Take("a", 1))
        receipt = await edge.execute(Add("a", 1), metadata=Metadata(actor="ann"))
        assert await edge.ask(StockOf("a"), after=receipt) == 1


async def test_what_reactions_and_timers_send_passes_by() -> None:
    from examples.shop.app import app as tickets
    from examples.shop.orders import PlaceOrder
    from examples.shop.outside import Mails, Payments, Service
    from examples.shop.shows import OpenShow

    seen: list[Any] = []
    service = Service()
    async with Engine(tickets, log="memory:", effects=[Payments(service), Mails(service)]) as engine:
        edge = Edge(engine, [Seen("s", seen)])
        await edge.execute(OpenShow("hamlet", 3, 20_00))
        await edge.execute(PlaceOrder("o1", "hamlet", 2, "ann@example.org"))
        with anyio.fail_after(10):
            async for happened in engine.follow():
                if type(happened.event).__name__ == "OrderPaid":
                    break
    assert {each[1] for each in seen if len(each) > 2} == {"OpenShow", "PlaceOrder"}


@pytest.mark.parametrize("wrong", [Seen, object()])
async def test_what_is_no_middleware_is_refused(wrong: Any) -> None:
    async with Engine(shop, log="memory:") as engine:
        with pytest.raises(DefinitionError, match="a middleware is an instance of Middleware"):
            Edge(engine, [wrong])


async def test_several_questions_pass_one_by_one_and_are_asked_together() -> None:
    class Narrow(Middleware):
        """One question at a time."""

        limiter = anyio.Semaphore(1)

        async def ask(self, asked: Asking, proceed: Ask) -> Answered[Any]:
            async with self.limiter:
                return await proceed(asked)

    seen: list[Any] = []
    async with Engine(shop, log="memory:") as engine:
        edge = Edge(engine, [Seen("s", seen), Tenant(), Narrow()])
        await engine.execute(Add("north/a", 3))
        receipt = await engine.execute(Add("north/b", 1))
        assert await edge.ask_all(StockOf("a"), StockOf("b"), after=receipt) == (3, 1)
        assert [each[1] for each in seen] == ["StockOf", "StockOf"]
        assert await edge.answer_all([StockOf("a")]) == Answered((3,), 2)
        assert await edge.ask_all() == ()
        with pytest.raises(Rejected, match="too_much"):
            await edge.ask_all(StockOf("a"), Everything())
        with pytest.raises(InvalidMessage, match="above the head"):
            await edge.ask_all(StockOf("a"), StockOf("b"), after=9)


async def test_an_answer_that_is_changed_can_not_be_asked_with_others() -> None:
    class Kept(Middleware):
        async def ask(self, asked: Asking, proceed: Ask) -> Answered[Any]:
            return Answered(7, 0) if asked.query == StockOf("kept") else await proceed(asked)

    class Yesterday(Middleware):
        async def ask(self, asked: Asking, proceed: Ask) -> Answered[Any]:
            return await proceed(replace(asked, at=0))

    class Refusing(Doubled):
        async def ask(self, asked: Asking, proceed: Ask) -> Answered[Any]:
            if asked.is_joint:
                raise Rejected("by_itself")
            return await super().ask(asked, proceed)

    async with Engine(shop, log="memory:") as engine:
        await engine.execute(Add("a", 3))
        for middleware in (Doubled(), Kept(), Yesterday()):
            with pytest.raises(
                DefinitionError, match=r"the answer of StockOf was changed, .*refuse it, by asked\.is_joint"
            ):
                await Edge(engine, [middleware]).ask_all(StockOf("a"), StockOf("kept"))
        with pytest.raises(Rejected, match="by_itself"):
            await Edge(engine, [Refusing()]).ask_all(StockOf("a"))


async def test_several_questions_share_one_timeout_also_where_the_middleware_waits(tmp_path: Path) -> None:
    log = tmp_path / "log.db"
    async with Engine(shop, log=log) as engine, Replica(shop, log=log) as replica:
        edge = Edge(replica, [Middleware()])
        await engine.execute(Add("a", 3))
        with anyio.fail_after(10), pytest.raises(NotYetVisible):
            await edge.ask_all(StockOf("a"), StockOf("b"), after=50, timeout=0.05)


@pytest.mark.parametrize("raised", [asyncio.CancelledError("by hand"), GeneratorExit(), KeyError("a bug")])
async def test_whatever_a_middleware_raises_the_caller_is_answered(raised: BaseException, tmp_path: Path) -> None:
    class Failing(Middleware):
        async def execute(self, asked: Executing, proceed: Execute) -> Receipt[Any]:
            raise raised

        async def ask(self, asked: Asking, proceed: Ask) -> Answered[Any]:
            raise raised

    async with Engine(shop, log="memory:") as engine:
        edge = Edge(engine, [Failing()])
        async with (
            Server(edge, listen=[f"unix://{tmp_path}/shop.sock"]),
            Client(f"unix://{tmp_path}/shop.sock") as client,
            serving(WebApp(shop, edge), engine) as web,
        ):
            for call in (
                client.execute(Add("a", 1)),
                client.ask(StockOf("a")),
                client.ask_all(StockOf("a"), StockOf("b")),
            ):
                with anyio.fail_after(10), pytest.raises(RemoteError):
                    await call
            with anyio.fail_after(10):
                assert [type(outcome) for outcome in await client.execute_many([Add("a", 1)])] == [RemoteError]
            await web.execute("Note", {"text": "x"}, 500)
            await web.ask("StockOf?item=a", 500)
            with pytest.raises(KeyError if isinstance(raised, KeyError) else RuntimeError):
                await edge.execute(Add("a", 1))
        assert engine.position == 0


async def test_a_caller_that_is_cancelled_is_cancelled() -> None:
    async with Engine(shop, log="memory:") as engine:
        edge = Edge(engine, [Middleware()])
        with anyio.move_on_after(0) as scope:
            await edge.ask(StockOf("a"), after=0)
            await anyio.lowlevel.checkpoint()
        assert scope.cancelled_caught

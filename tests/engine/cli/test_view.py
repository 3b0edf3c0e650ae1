"""``millstream view rebuild`` and ``view diff``: changed code beside the running writer, before it is deployed."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from millstream.engine import App, Engine, LogRefused, UnknownMessage
from millstream.engine.client import Client
from millstream.engine.stores.sqlite.snapshots import SqliteSnapshots
from millstream.engine.upkeep import compare_answers, make_views
from tests import tomorrow
from tests.desk import Seen
from tests.engine.cli.running import Millstream, program, served
from tests.shop import Add, StockOf, shop

ROOT = Path(__file__).parents[3]
TOMORROW = "tests.tomorrow:shop"


@pytest.fixture
def millstream(
    capsysbinary: pytest.CaptureFixture[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Millstream:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(ROOT)
    monkeypatch.setenv("MILLSTREAM_ADDRESS", f"unix://{tmp_path}/socket")
    return program(capsysbinary)


async def add(socket: Path, count: int) -> None:
    async with Client(f"unix://{socket}") as client:
        await client.execute_many([Add("a", 12)] * count)


def opened(app: App, log_lines: list[Any]) -> tuple[int, int]:
    """What an engine says that opens the log, and how many events were applied to its shelf for that."""

    async def ask() -> int:
        async with Engine(app, log="shop.db") as engine:
            return await engine.ask(StockOf("a"))

    found = anyio.run(ask)
    return found, [line["replayed"] for line in log_lines if line["event"] == "opened"][-1]


def test_a_view_of_changed_code_is_made_beside_the_running_writer_and_taken_up_at_the_next_start(
    millstream: Millstream, tmp_path: Path, log_lines: list[Any]
) -> None:
    with served(shop, Path("shop.db"), tmp_path / "socket"):
        anyio.run(add, tmp_path / "socket", 30)
        ran = millstream("view", "rebuild", TOMORROW, "shop.db", "Shelf", "--json")
        assert (ran.code, ran.err) == (0, "")
        assert ran.values["size_bytes"] > 20
        assert ran.values["view"] == "Shelf"
        assert (ran.values["position"], ran.values["began_after"], ran.values["stored"]) == (30, 0, True)
        anyio.run(add, tmp_path / "socket", 5)
        ran = millstream("view", "rebuild", TOMORROW, "shop.db", "Shelf")
        assert (ran.code, ran.err) == (0, "")
        assert ran.out.split()[-7:-2] == ["Shelf", "35", "5", "0", ran.out.split()[-3]]
    assert opened(tomorrow.shop, log_lines) == (35, 0)
    assert opened(shop, log_lines) == (420, 0)
    assert opened(tomorrow.shop, log_lines) == (35, 0)


def test_by_default_those_are_made_that_have_no_snapshot_that_fits(
    millstream: Millstream, tmp_path: Path, log_lines: list[Any]
) -> None:
    with served(shop, Path("shop.db"), tmp_path / "socket"):
        anyio.run(add, tmp_path / "socket", 3)
    assert [each["view"] for each in millstream("view", "rebuild", TOMORROW, "shop.db", "--json").lines] == ["Shelf"]
    ran = millstream("view", "rebuild", TOMORROW, "shop.db")
    assert (ran.code, ran.out) == (0, "every view has a snapshot that fits this code\n")
    ran = millstream("view", "rebuild", TOMORROW, "shop.db", "Shelf", "--anew", "--json")
    assert (ran.values["began_after"], ran.values["position"]) == (0, 3)
    assert opened(tomorrow.shop, log_lines) == (3, 0)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((TOMORROW, "memory:"), 3, "no other process can read it"),
        ((TOMORROW, "other.db"), 3, "log other.db is refused: it is not there"),
        ((TOMORROW, "shop.db", "Shelves"), 2, "application 'shop' has no view 'Shelves'"),
        (("tests.tomorrow:broken_shop", "shop.db"), 5, "tomorrow can't"),
        (("examples.bank:app", "shop.db"), 3, "it belongs to application 'shop'"),
    ],
)
def test_what_can_not_be_made_is_one_line_and_an_exit_code_and_nothing_is_stored(
    millstream: Millstream, tmp_path: Path, arguments: tuple[str, ...], code: int, said: str, log_lines: list[Any]
) -> None:
    with served(shop, Path("shop.db"), tmp_path / "socket"):
        anyio.run(add, tmp_path / "socket", 3)
    ran = millstream("view", "rebuild", *arguments)
    assert (ran.code, ran.out, ran.err.count("\n")) == (code, "", 1), ran.err
    assert said in ran.err
    assert opened(shop, log_lines) == (36, 0)


@pytest.mark.anyio
async def test_whoever_takes_snapshots_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    async with Engine(shop, log=path, snapshots=False) as engine:
        await engine.execute_many([Add("a", 1)] * 3)
    read, order = anyio.Event(), []

    async def make() -> None:
        made = await make_views(path, tomorrow.shop, (name for name in ["Shelf"]), on_progress=lambda *_: read.set())
        order.append("made")
        assert [(each.view, each.stored) for each in made] == [("Shelf", True)]

    async with anyio.create_task_group() as group, SqliteSnapshots(f"{path}-snapshots", like=path).taking():
        group.start_soon(make)
        await read.wait()
        for _ in range(10):
            await anyio.to_thread.run_sync(lambda: None)
        order.append("done")
    assert order == ["done", "made"]


@pytest.mark.anyio
async def test_views_are_named_as_they_are_and_queries_too(tmp_path: Path) -> None:
    async with Engine(shop, log=tmp_path / "shop.db") as engine:
        await engine.execute(Add("a", 1))
        with pytest.raises(UnknownMessage):
            await make_views(tmp_path / "shop.db", shop, ["Nothing"])
        with pytest.raises(UnknownMessage):
            await compare_answers(tmp_path / "shop.db", shop, [Seen()], engine)


# What differs.


def test_what_a_server_and_the_code_here_answer_is_compared_at_one_position(
    millstream: Millstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries = '{"type":"StockOf","item":"a"}', '{"type":"StockOf","item":"z"}', '{"type":"Everything"}'
    with served(shop, Path("shop.db"), tmp_path / "socket"):
        anyio.run(add, tmp_path / "socket", 3)
        ran = millstream("view", "diff", TOMORROW, "shop.db", *queries, "--json")
        assert (ran.code, ran.err) == (1, "")
        assert [(each["differs"], each["position"]) for each in ran.lines] == [(True, 3), (False, 3), (False, 3)]
        assert ran.lines[0]["query"] == {"type": "StockOf", "item": "a"}
        assert (ran.lines[0]["server"], ran.lines[0]["here"]) == (36, 3)
        assert ran.lines[2]["server"] == ran.lines[2]["here"] == {"a": 36}
        ran = millstream("view", "diff", "tests.shop:shop", "shop.db", *queries)
        assert (ran.code, ran.out.count("same at 3: ")) == (0, 3)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(f"{queries[0]}\n\n".encode())))
        ran = millstream("view", "diff", TOMORROW, "shop.db", "-")
        assert ran.code == 1
        assert ran.out.startswith('DIFFERS at 3: {"type":"StockOf","item":"a"}\n')
        assert ran.figures == {"server": "36", "here": "3"}
        ran = millstream("view", "diff", "tests.tomorrow:broken_shop", "shop.db", queries[0], "--json")
        assert "tomorrow can't" in ran.values["here"]


@pytest.mark.parametrize(
    ("query", "code", "said"),
    [
        ("StockOf", 2, "it is no object in JSON"),
        ('{"type":"StockOf"}', 2, "missing required field `item`"),
        ('{"type":"Stock"}', 2, "application 'shop' has no query 'Stock'"),
        ('{"type":7}', 2, "Expected `str`"),
        ('{"type":"Everything"}', 7, "no connection to unix://"),
    ],
)
def test_what_can_not_be_compared_is_one_line_and_an_exit_code(
    millstream: Millstream, query: str, code: int, said: str
) -> None:
    async def write() -> None:
        async with Engine(shop, log="shop.db") as engine:
            await engine.execute(Add("a", 1))

    anyio.run(write)
    ran = millstream("view", "diff", TOMORROW, "shop.db", query)
    assert (ran.code, ran.out) == (code, ""), ran.err
    assert said in ran.err
    assert ran.err.count("\n") == 1


@pytest.mark.anyio
async def test_beside_a_writer_that_goes_on_equal_code_answers_the_same(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    async with Engine(shop, log=path) as engine, anyio.create_task_group() as group:

        async def write() -> None:
            for _ in range(300):
                await engine.execute(Add("a", 1))

        group.start_soon(write)
        compared = await compare_answers(path, shop, [StockOf("a")] * 50, engine)
        assert not any(each.differs for each in compared)
        assert [each.position for each in compared] == [each.here for each in compared]


@pytest.mark.anyio
async def test_a_log_that_is_not_the_server_s_is_refused(tmp_path: Path) -> None:
    short, long = tmp_path / "short.db", tmp_path / "long.db"
    async with Engine(shop, log=short) as engine, Engine(shop, log=long) as other:
        await engine.execute(Add("a", 1))
        await other.execute_many([Add("a", 1)] * 3)
        with pytest.raises(LogRefused, match="the server answers as of position 3, and it ends at 1"):
            await compare_answers(short, shop, [StockOf("a")], other)
        with pytest.raises(LogRefused, match="it has position 3, and the server's has not"):
            await compare_answers(long, shop, [StockOf("a")], engine)

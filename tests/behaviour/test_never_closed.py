"""Programs that end without closing what they opened: they end, the log is whole, and a warning says what was open."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from millstream.engine import Engine
from millstream.engine.upkeep import attached, verify_log
from tests.shop import StockOf, shop

ROOT = Path(__file__).resolve().parent.parent.parent
SECONDS_MAX = 60

START = """
import asyncio, os, sys, structlog
from millstream.engine import Engine, LogLocked, Replica
from millstream.engine.client import Client, SyncClient
from millstream.engine.server import Server
from tests.shop import Add, StockOf, shop

structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))

async def opened():
    engine = await Engine(shop, log="shop.db").__aenter__()
    print((await engine.execute(Add("a", 1))).position, flush=True)
    return engine
"""


def ran(folder: Path, program: str) -> subprocess.CompletedProcess[str]:
    """A program that has ended by itself."""
    return subprocess.run(
        [sys.executable, "-W", "always::ResourceWarning", "-c", START + program],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )


def stock(log: Path) -> int:
    """What the log says when it is opened again; it is whole."""

    async def opened() -> int:
        async with attached(str(log)) as (found, _):
            await verify_log(found)
        async with Engine(shop, log=log) as engine:
            return await engine.ask(StockOf("a"))

    return anyio.run(opened)


def warned(program: subprocess.CompletedProcess[str], what: str) -> bool:
    return f"ResourceWarning: the {what} was never closed" in program.stderr


@pytest.mark.parametrize(
    ("program", "code"),
    [
        ("asyncio.run(opened())", 0),
        ("async def main():\n    await opened()\n    raise KeyError('why')\nasyncio.run(main())", 1),
        ("import uvloop\nuvloop.run(opened())", 0),
    ],
    ids=["returns", "raises", "uvloop"],
)
def test_a_program_ends_though_its_engine_was_never_closed(program: str, code: int, tmp_path: Path) -> None:
    ended = ran(tmp_path, program)
    assert (ended.returncode, ended.stdout) == (code, "1\n")
    assert warned(ended, "engine of shop.db")
    assert stock(tmp_path / "shop.db") == 1


def test_what_was_under_way_is_there_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    ended = ran(
        tmp_path,
        """
async def main():
    engine = await opened()
    async def told():
        receipt = await engine.execute(Add("a", 1))
        print(receipt.position, flush=True)
    callers = [asyncio.ensure_future(told()) for _ in range(1_000)]
    await asyncio.wait(callers, return_when=asyncio.FIRST_COMPLETED)
asyncio.run(main())
""",
    )
    assert ended.returncode == 0
    assert max(map(int, ended.stdout.split())) <= stock(tmp_path / "shop.db") <= 1_001


def test_a_replica_and_clients_that_were_never_closed_hold_nothing_up(tmp_path: Path) -> None:
    ended = ran(
        tmp_path,
        """
kept = []
async def main():
    engine = await opened()
    replica = await Replica(shop, log="shop.db").__aenter__()
    server = await Server(engine, listen=[f"unix://{os.getcwd()}/socket"]).__aenter__()
    client = await Client(server.addresses[0]).__aenter__()
    sync = SyncClient(server.addresses[0])
    await asyncio.to_thread(sync.__enter__)
    kept.extend([client, sync])  # and alive until the end
    print(await replica.ask(StockOf("a"), after=1), await client.ask(StockOf("a")), flush=True)
asyncio.run(main())
""",
    )
    assert (ended.returncode, ended.stdout) == (0, "1\n1 1\n")
    socket = f"unix://{tmp_path}/socket"
    assert [warned(ended, what) for what in ("engine of shop.db", "replica of shop.db", f"client of {socket}")] == [
        True
    ] * 3
    assert stock(tmp_path / "shop.db") == 1


def test_a_log_can_be_opened_again_in_the_same_program_once_what_held_it_is_gone(tmp_path: Path) -> None:
    ended = ran(tmp_path, "import gc\nfor _ in range(2):\n    asyncio.run(opened())\n    gc.collect()")
    assert (ended.returncode, ended.stdout) == (0, "1\n2\n")
    assert ended.stderr.count("ResourceWarning: the engine of shop.db was never closed") == 2
    assert stock(tmp_path / "shop.db") == 2


@pytest.mark.skipif(not hasattr(sys.modules["os"], "fork"), reason="there is no fork")
@pytest.mark.parametrize("leaves", ["sys.exit(3)", "return await engine.execute(Add('a', 1))", "os._exit(3)"])
def test_a_forked_child_ends_and_its_parent_goes_on(leaves: str, tmp_path: Path) -> None:
    ended = ran(
        tmp_path,
        f"""
async def main():
    async with Engine(shop, log="shop.db") as engine:
        await engine.execute(Add("a", 1))
        child = os.fork()
        if not child:
            {leaves}
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), (await engine.execute(Add("a", 1))).position, flush=True)
        try:
            await Engine(shop, log="shop.db").__aenter__()
        except LogLocked:
            print("locked", flush=True)
asyncio.run(main())
""",
    )
    code = 1 if "return" in leaves else 3
    assert (ended.returncode, ended.stdout) == (0, f"{code} 2\nlocked\n")
    assert ("WrongLoop" in ended.stderr) == ("return" in leaves)
    assert not warned(ended, "engine of shop.db")
    assert "writer_stopped" not in ended.stdout + ended.stderr
    assert stock(tmp_path / "shop.db") == 2

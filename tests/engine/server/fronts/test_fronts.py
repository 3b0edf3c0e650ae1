"""Fronts as the processes that they are: started, killed, held up, orphaned, and ended in good order."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from contextlib import suppress
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import anyio
import pytest

from millstream.engine import App, DefinitionError, Engine, Limits, Observer, Replica
from millstream.engine.client import Client
from millstream.engine.server import Server, ServerLimits, Tokens
from millstream.engine.server.fronts import fronts as all_fronts
from millstream.engine.server.fronts.errors import FrontFailed
from millstream.engine.server.fronts.fronts import Fronts
from millstream.handlers import WriteModel, applies
from tests.engine.server.caller import ADD, SECONDS_MAX, STOCK, Caller, calling, request, until
from tests.engine.server.front_here import FrontHere
from tests.shop import Add, Added, StockOf, shop
from tests.support import ScriptedLog

pytestmark = pytest.mark.anyio

HERE = ("tcp://127.0.0.1:0",)
QUICK = ServerLimits(front_retry_seconds_min=0.01)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """A process takes a second to start: one loop is enough here."""
    return "asyncio", {"use_uvloop": True}


def fronts_of(server: Server) -> Fronts:
    assert server._fronts is not None
    return server._fronts


def is_alive(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


class Seen(Observer):
    """Waits for fronts that start and end."""

    def __init__(self) -> None:
        self.started: list[int] = []
        self.lost: list[BaseException] = []
        self._happened = anyio.Event()

    def front_started(self, *, front: int, pid: int) -> None:
        self.started.append(pid)
        self._happened.set()

    def front_lost(self, *, front: int, error: BaseException, retry_seconds: float) -> None:
        self.lost.append(error)
        self._happened.set()

    async def until(self, *, started: int) -> None:
        with anyio.fail_after(6 * SECONDS_MAX):
            while len(self.started) < started:
                await self._happened.wait()
                self._happened = anyio.Event()


async def test_fronts_that_are_killed_under_load_lose_nothing_double_nothing_and_are_started_again() -> None:
    callers, each, seen = 6, 150, Seen()
    async with (
        Engine(shop, log="memory:", observers=[seen]) as engine,
        Server(engine, listen=HERE, fronts=2, limits=QUICK) as server,
    ):
        address, done = server.addresses[0], [0]

        async def call(number: int) -> None:
            async with Client(address, name_commands=True) as client:
                for _ in range(each):
                    await client.execute(Add(f"item{number}", 1))
                    done[0] += 1

        async with anyio.create_task_group() as group:
            for number in range(callers):
                group.start_soon(call, number)
            await until(lambda: done[0] > 100)
            before = fronts_of(server).pids
            for pid in before:
                os.kill(pid, signal.SIGKILL)
        await seen.until(started=4)
        for number in range(callers):
            assert await engine.ask(StockOf(f"item{number}")) == each
        stats = server.stats()
        assert (stats.fronts, stats.fronts_lost, done[0]) == (2, 2, callers * each)
        assert sorted(map(str, seen.lost)) == [
            f"front process {number} has ended with -9: it said nothing; its standard error is that of this process"
            for number in (1, 2)
        ]
        assert not any(map(is_alive, before))
    assert not any(map(is_alive, seen.started))


async def test_what_a_lost_front_had_handed_over_is_decided_and_others_notice_nothing() -> None:
    log = ScriptedLog()
    async with (
        Engine(shop, log=log, limits=Limits(batch_commands_max=1)) as engine,  # the third is decided after the loss
        Server(engine, listen=HERE, fronts=1, limits=QUICK) as server,
        calling(server) as caller,
    ):
        await caller.call("watch", {"query": STOCK})
        await caller.reply()
        log.hold()
        await caller.send(b"".join(request("execute", {"command": ADD}, number) for number in range(3)))
        await until(lambda: server.stats().in_flight == 3)
        os.kill(fronts_of(server).pids[0], signal.SIGKILL)
        assert await caller.line() == b""
        await until(lambda: server.stats().connections == 0)
        assert server.stats().watches == 0
        log.release()
        assert await engine.ask(StockOf("a"), after=(await engine.execute(Add("a", 1)))) == 4
        assert server.stats().dropped == {"front_lost": 1}


async def test_fronts_check_tokens_and_bounds_are_those_of_all_together(tmp_path: Path) -> None:
    tokens = Tokens(["reader:a token for reading", "writer:a token for writing"])
    limits = ServerLimits(connections_max=8)
    async with (
        Engine(shop, log="memory:") as engine,
        Server(engine, listen=[f"unix://{tmp_path}/socket"], fronts=2, tokens=tokens, limits=limits) as server,
    ):
        async with anyio.create_task_group() as group:
            together = anyio.Event()

            async def come() -> None:
                async with calling(server) as caller:
                    refused = await caller.call("ask", {"query": STOCK})
                    assert refused["data"]["error"] == "NotAuthenticated"
                    assert await caller.call("authenticate", {"token": "a token for reading"}) == {"role": "reader"}
                    assert await caller.call("ask", {"query": STOCK}) == {"answer": 0, "position": 0}
                    refused = await caller.call("execute", {"command": ADD})
                    assert refused["message"] == "role 'reader' may not call 'execute': use a token of a role that may"
                    await together.wait()

            for _ in range(8):
                group.start_soon(come)
            await until(lambda: server.stats().connections == 8)
            async with calling(server) as ninth:
                (told,) = await ninth.rest()
                assert told["error"]["data"]["limit"] == "connections_max"
            together.set()
        assert server.stats().dropped == {"connections_max": 1}
    assert not (tmp_path / "socket").exists()


async def test_a_replica_has_fronts_as_an_engine_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("millstream.engine.server.fronts.fronts.Process", FrontHere)
    path = tmp_path / "shop.db"
    async with (
        Engine(shop, log=path) as engine,
        Server(engine, listen=HERE) as writer,
        Client(writer.addresses[0]) as client,
        Replica(shop, log=path, writer=client) as replica,
        Server(replica, listen=HERE, fronts=1) as server,
        calling(server) as caller,
    ):
        assert (await caller.call("health"))["role"] == "replica"
        assert (await caller.call("execute", {"command": ADD}))["position"] == 1
        assert await caller.call("ask", {"query": STOCK, "after": 1}) == {"answer": 1, "position": 1}
        assert [each["position"] for each in await outcomes(caller)] == [2, 3]


async def outcomes(caller: Caller) -> list[Any]:
    told = await caller.call("execute_many", {"commands": [ADD, ADD]})
    return [each["result"] for each in told["outcomes"]]


async def test_a_front_that_does_not_take_what_it_is_sent_is_killed_and_nobody_waits_for_it() -> None:
    seen = Seen()
    limits = ServerLimits(front_retry_seconds_min=0.01, front_bytes_max=1)
    async with (
        Engine(shop, log="memory:", observers=[seen]) as engine,
        Server(engine, listen=HERE, fronts=1, limits=limits) as server,
        calling(server) as caller,
    ):
        await caller.call("watch", {"query": {"type": "Everything"}, "every": True})
        await caller.reply()
        (pid,) = fronts_of(server).pids
        (link,) = fronts_of(server)._links()
        os.kill(pid, signal.SIGSTOP)
        number = 0
        while link.slow_since is None:
            number += 1
            await engine.execute(Add("x" * 10_000 + str(number), 1))
        fronts_of(server).sweep(link.slow_since + 29)
        assert fronts_of(server).pids == [pid]
        fronts_of(server).sweep(link.slow_since + 31)
        await seen.until(started=2)
        async with calling(server) as other:
            assert (await other.call("health"))["live"] is True


def serving(tmp_path: Path, *arguments: str) -> subprocess.Popen[str]:
    root = str(Path(__file__).parents[4])
    return subprocess.Popen(
        [sys.executable, "-m", "millstream.engine.cli", "serve", "examples.bank:app", *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": root},
        stderr=subprocess.PIPE,
        text=True,
    )


def fronts_told(child: subprocess.Popen[str]) -> list[int]:
    """The fronts of a server that has begun to listen."""
    assert child.stderr is not None
    found: list[int] = []
    for line in child.stderr:
        told = json.loads(line)
        if told["event"] == "front_started":
            found.append(told["pid"])
        if told["event"] == "server_listening":
            break
    return found


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_fronts_end_with_the_process_whose_they_are(number: signal.Signals, tmp_path: Path) -> None:
    child = serving(tmp_path, "--fronts", "2", "--listen", "unix://bank.sock")
    try:
        pids = fronts_told(child)
        assert len(pids) == 2
        for pid in pids:
            os.kill(pid, signal.SIGTERM)  # meant for all of a group: the server is the one to hear it
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(tmp_path / "bank.sock"))
            connection.sendall(request("execute", {"command": {"type": "Open", "account": "ann"}}))
            assert b'"position":1' in connection.recv(1_000)
            assert all(map(is_alive, pids))
            child.send_signal(number)
            assert connection.recv(1_000) == b""
        child.communicate(timeout=30)
        await until(lambda: not any(map(is_alive, pids)))
        assert child.returncode == (0 if number == signal.SIGTERM else -9)
    finally:
        child.kill()
        child.communicate()


async def test_a_front_that_can_not_be_started_is_said_at_the_start_and_none_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only_here.py").write_text(
        "import os\n"
        "from millstream.engine import App\n"
        "from tests.shop import Shelf, Stock\n"
        "if os.environ.get('ELSEWHERE'):\n"
        "    raise RuntimeError('no colours here')\n"
        "class Mine(Stock): pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    spec = spec_from_file_location("only_here", tmp_path / "only_here.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "only_here", module)
    spec.loader.exec_module(module)
    app = App(models=[module.Mine], views=list(shop.views), retired=shop.retired, name="mine")
    monkeypatch.setenv("ELSEWHERE", "1")
    async with Engine(app, log="memory:") as engine:
        server = Server(engine, listen=HERE, fronts=2)
        with pytest.raises(FrontFailed, match=r"(?s)front process [12] has ended with 1: .*no colours here"):
            await server.__aenter__()
        assert fronts_of(server).pids == []


class Inner(WriteModel):
    @applies
    def added(self, event: Added) -> None: ...


@pytest.mark.parametrize(
    ("change", "count", "said"),
    [
        (None, -1, "there are 0 to 256 front processes, not -1"),
        (None, 257, "there are 0 to 256 front processes, not 257"),
        ("windows", 2, "this system can't hand a socket on to a front process: serve in one process: fronts=0"),
        ("frozen", 2, "no Python interpreter to start a front process with: serve in one process: fronts=0"),
        ("tls", 2, "front processes make the TLS context anew: give them one that tls_context has made, of files"),
        ("app", 2, "another process can't import .*: it is made within a function; .*, or serve in one process"),
    ],
)
async def test_where_fronts_can_not_be_had_that_is_said_before_anything_is_done(
    change: str | None, count: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = shop
    if change == "app":

        class Within(Inner): ...

        app = App(models=[*shop.models, Within], views=list(shop.views), retired=shop.retired, name="shop")
    async with Engine(app, log="memory:") as engine:
        if change == "windows":
            monkeypatch.setattr(all_fronts, "os", type("os", (), {"name": "nt"}))
        elif change == "frozen":
            monkeypatch.setattr(sys, "frozen", True, raising=False)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if change == "tls" else None
        with pytest.raises(DefinitionError, match=said):
            Server(engine, listen=HERE, fronts=count, tls=tls)


def test_who_has_no_fronts_loads_nothing_of_them() -> None:
    program = (
        "import anyio, sys\n"
        "from millstream.engine import Engine\n"
        "from millstream.engine.server import Server\n"
        "from tests.shop import shop\n"
        "async def main():\n"
        "    async with Engine(shop, log='memory:') as engine, Server(engine, listen=['tcp://127.0.0.1:0']): pass\n"
        "anyio.run(main)\n"
        "print([name for name in sys.modules if '.fronts' in name])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import ssl
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from millstream.engine import DefinitionError, Engine
from millstream.engine.server import Server, ServerLimits, Tokens, tls_context
from millstream.engine.wire import Address
from tests.certificates import Certificates
from tests.engine.server.caller import ADD, STOCK, Caller, calling, connections_of, one_process, request, served, until
from tests.shop import shop
from tests.support import ScriptedLog

pytestmark = pytest.mark.anyio

TOKENS = Tokens(["writer:0123456789abcdef"])


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.made_in(tmp_path_factory.mktemp("tls"))


@contextlib.asynccontextmanager
async def over_tls(server: Server, context: ssl.SSLContext) -> AsyncIterator[tuple[Any, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.addresses[0].port, ssl=context)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            await writer.wait_closed()


async def asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Any:
    writer.write(request("health"))
    with anyio.fail_after(10):
        return json.loads(await reader.readline())["result"]["live"]


# What is refused.


@pytest.mark.parametrize(
    ("address", "tokens", "problem"),
    [
        ("tcp://0.0.0.0:0", None, "has no tokens and no TLS"),
        ("tcp://0.0.0.0:0", TOKENS, "has no TLS"),
        ("tcp://[::]:0", TOKENS, "has no TLS"),
        ("tls://0.0.0.0:0", None, "has no tokens"),
        ("tls://[::]:0", None, "has no tokens"),
    ],
)
async def test_an_address_that_other_machines_reach_is_refused_without_tokens_and_tls(
    address: str, tokens: Tokens | None, problem: str, certificates: Certificates
) -> None:
    async with Engine(shop, log="memory:") as engine:
        tls = tls_context(certificates.server)
        with pytest.raises(DefinitionError) as refused:
            await Server(engine, listen=["tcp://127.0.0.1:0", address], tokens=tokens, tls=tls).__aenter__()
        assert str(refused.value) == (
            f"{address} can be reached from other machines and {problem}: give them, listen on 127.0.0.1, or say "
            "insecure=True (Server)"
        )


async def test_it_is_listened_to_with_both_or_when_that_is_said(certificates: Certificates) -> None:
    async with Engine(shop, log="memory:") as engine:
        tls = tls_context(certificates.server)
        async with Server(engine, listen=["tls://0.0.0.0:0"], tokens=TOKENS, tls=tls) as server:
            assert server.addresses[0].port
        async with Server(engine, listen=["tcp://0.0.0.0:0"], insecure=True) as server, calling(server) as caller:
            assert (await caller.call("health"))["live"] is True


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:0", "tcp://127.8.9.10:0", "tcp://localhost:0"])
async def test_this_machine_alone_is_safe(address: str) -> None:
    async with served(listen=[address]) as server, calling(server) as caller:
        assert (await caller.call("health"))["live"] is True


async def test_a_name_is_as_safe_as_the_addresses_that_it_stands_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolved(_: Address) -> list[Any]:
        return [(socket.AF_INET, (host, 0)) for host in ("127.0.0.1", "192.0.2.1")]

    monkeypatch.setattr("millstream.engine.server.listening._places", resolved)
    async with Engine(shop, log="memory:") as engine:
        with pytest.raises(DefinitionError, match="tcp://localhost:0 can be reached from other machines"):
            await Server(engine, listen=["tcp://localhost:0"]).__aenter__()


@pytest.mark.parametrize(
    ("listen", "problem"),
    [
        ([], "a server listens on at least one address"),
        (["127.0.0.1:7411"], "an address is tcp://HOST:PORT, tls://HOST:PORT or unix://PATH, not '127.0.0.1:7411'"),
        (["tls://127.0.0.1:0"], "tls://127.0.0.1:0 wants TLS: give a certificate"),
        (["unix:///no/such/folder/socket"], "unix:///no/such/folder/socket can't be listened on: No such file"),
        ([f"unix:///tmp/{'x' * 200}"], "can't be listened on: AF_UNIX path too long"),
        (["tcp://no.such.host.invalid:0"], "tcp://no.such.host.invalid:0 can't be listened on: "),
    ],
)
async def test_what_can_not_be_listened_on_is_refused_and_named(listen: list[str], problem: str) -> None:
    async with Engine(shop, log="memory:") as engine:
        with pytest.raises(DefinitionError) as refused:
            await Server(engine, listen=listen).__aenter__()
        assert problem in str(refused.value)


async def test_a_port_that_is_taken_is_refused_and_what_was_bound_before_it_is_let_go(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    async with served() as server, Engine(shop, log="memory:") as engine:
        with pytest.raises(DefinitionError, match="can't be listened on: Address already in use"):
            await Server(engine, listen=[f"unix://{path}", server.addresses[0]]).__aenter__()
        assert not path.exists()


# Several addresses.


async def test_it_listens_on_all_its_addresses_and_says_which_it_got(tmp_path: Path, log_lines: list[Any]) -> None:
    unix = Address("unix", path=str(tmp_path / "socket"))
    listen: list[str | Address] = ["tcp://127.0.0.1:0", unix, "tcp://127.0.0.1:0"]
    async with served(listen=listen) as server:
        assert [each.kind for each in server.addresses] == ["tcp", "unix", "tcp"]
        assert server.addresses[0].port != server.addresses[2].port
        for which in range(3):
            async with calling(server, which) as caller:
                assert (await caller.call("execute", {"command": ADD}))["position"] == which + 1
        (line,) = [each for each in log_lines if each["event"] == "server_listening"]
        assert line["addresses"] == [str(each) for each in server.addresses]


async def test_a_name_with_several_addresses_has_one_port_on_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolved(_: Address) -> list[Any]:
        return [(socket.AF_INET, (host, 0)) for host in ("127.0.0.1", "127.0.0.2")]

    monkeypatch.setattr("millstream.engine.server.listening._places", resolved)
    async with served(listen=["tcp://localhost:0"]) as server:
        (listener,) = server._listeners
        port = server.addresses[0].port
        assert [each.getsockname() for each in listener.sockets] == [("127.0.0.1", port), ("127.0.0.2", port)]


async def test_an_address_of_which_this_machine_has_but_one_kind_is_listened_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hosts = ["192.0.2.1", "127.0.0.1"]

    async def resolved(_: Address) -> list[Any]:
        return [(socket.AF_INET, (host, 0)) for host in hosts]

    monkeypatch.setattr("millstream.engine.server.listening._places", resolved)
    async with Engine(shop, log="memory:") as engine:
        async with Server(engine, listen=["tcp://127.0.0.1:0"], insecure=True) as server, calling(server) as caller:
            assert (await caller.call("health"))["live"] is True
        hosts.pop()
        with pytest.raises(DefinitionError, match="can't be listened on: Cannot assign requested address"):
            await Server(engine, listen=["tcp://127.0.0.1:0"], insecure=True).__aenter__()


async def test_what_is_sent_is_sent_at_once_and_who_vanishes_is_noticed() -> None:
    async with served() as server, calling(server) as caller:
        await caller.call("health")
        (connection,) = connections_of(server)
        accepted = connection.transport.get_extra_info("socket")
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
        assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) != 0


# Unix sockets.


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
async def test_a_unix_socket_has_its_permissions_from_the_beginning(tmp_path: Path, mode: int) -> None:
    path, before = tmp_path / "socket", os.umask(0o022)
    try:
        async with served(listen=[f"unix://{path}"], unix_mode=mode) as server, calling(server) as caller:
            assert stat.S_IMODE(path.stat().st_mode) == mode
            assert (await caller.call("health"))["live"] is True
            assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)


async def test_what_a_dead_server_left_is_replaced_and_a_living_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    listen = [f"unix://{path}"]
    async with served(listen=listen) as server, Engine(shop, log="memory:") as engine:
        with pytest.raises(DefinitionError, match="can't be listened on: another server listens there"):
            await Server(engine, listen=listen).__aenter__()
        async with calling(server) as caller:
            assert (await caller.call("health"))["live"] is True
    assert not path.exists()


async def test_a_server_that_is_too_busy_to_accept_is_alive(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as busy, contextlib.ExitStack() as waiting:
        busy.bind(str(path))
        busy.listen(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                one = waiting.enter_context(socket.socket(socket.AF_UNIX))
                one.setblocking(False)
                one.connect(str(path))
        async with Engine(shop, log="memory:") as engine:
            with pytest.raises(DefinitionError, match="another server listens there"):
                await Server(engine, listen=[f"unix://{path}"]).__aenter__()


async def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "bank.db"
    path.write_text("precious")
    async with Engine(shop, log="memory:") as engine:
        with pytest.raises(DefinitionError, match="can't be listened on: it is there already, and no socket"):
            await Server(engine, listen=[f"unix://{path}"]).__aenter__()
    assert path.read_text() == "precious"


async def test_a_socket_that_somebody_has_put_in_its_place_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    async with served(listen=[f"unix://{path}"]):
        path.unlink()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(path))
    assert path.is_socket()


async def test_a_system_without_unix_sockets_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("millstream.engine.server.listening.socket", SimpleNamespace())
    async with Engine(shop, log="memory:") as engine:
        with pytest.raises(DefinitionError, match="this system has no Unix sockets"):
            await Server(engine, listen=[f"unix://{tmp_path}/socket"]).__aenter__()


# TLS.


async def test_requests_go_over_tls(certificates: Certificates) -> None:
    tls = tls_context(certificates.server)
    async with (
        served(listen=["tls://127.0.0.1:0"], tls=tls) as server,
        over_tls(server, certificates.context()) as (reader, writer),
    ):
        for to in range(3):
            writer.write(request("execute", {"command": ADD}, to) * 50)
        for _ in range(150):
            assert "result" in json.loads(await reader.readline())
        assert str(server.addresses[0]).startswith("tls://127.0.0.1:")


async def test_a_graceful_stop_answers_over_tls_too(certificates: Certificates) -> None:
    tls = tls_context(certificates.server)
    async with Engine(shop, log="memory:") as engine:
        server = Server(engine, listen=["tls://127.0.0.1:0"], tls=tls)
        async with server, over_tls(server, certificates.context()) as (reader, writer):
            writer.write(b"".join(request("execute", {"command": ADD}, number) for number in range(100)))
            await until(lambda: engine.position > 0)
            stopping = asyncio.create_task(server.__aexit__(None, None, None))
            with anyio.fail_after(10):
                replies = [json.loads(line) for line in (await reader.read()).splitlines()]
            assert [each["id"] for each in replies] == list(range(100))
            writer.close()
            await stopping


@one_process
async def test_one_who_ends_tls_after_asking_hears_what_is_there(certificates: Certificates) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    spoken = certificates.context().wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    log, tls = ScriptedLog(), tls_context(certificates.server)
    async with served(log=log, listen=["tls://127.0.0.1:0"], tls=tls) as server, calling(server) as caller:

        async def done(step: Callable[[], Any]) -> Any:
            while True:
                try:
                    return step()
                except ssl.SSLWantReadError:
                    await caller.send(outgoing.read())
                    incoming.write(await caller._receive())

        await done(spoken.do_handshake)
        log.hold()
        spoken.write(request("execute", {"command": ADD}) + request("ask", {"query": STOCK}, 2))
        with contextlib.suppress(ssl.SSLWantReadError):
            spoken.unwrap()
        await caller.send(outgoing.read())
        assert json.loads(await done(lambda: spoken.read(1_000)))["result"] == {"answer": 0, "position": 0}
        with pytest.raises(ssl.SSLZeroReturnError):
            await done(lambda: spoken.read(1_000))
        await until(lambda: not server.stats().connections)
        log.release()


async def test_a_client_certificate_is_wanted_where_authorities_for_them_are_named(certificates: Certificates) -> None:
    tls = tls_context(certificates.server, clients=certificates.authority)
    async with served(listen=["tls://127.0.0.1:0"], tls=tls) as server:
        async with over_tls(server, certificates.context(certificates.client)) as (reader, writer):
            assert await asked(reader, writer) is True
        for context in (certificates.context(), certificates.context(certificates.stranger)):
            with pytest.raises((ssl.SSLError, ConnectionError, json.JSONDecodeError)):
                async with over_tls(server, context) as (reader, writer):
                    await asked(reader, writer)  # with TLS 1.3 the client hears of it when it reads
        await until(lambda: server.stats().dropped.get("handshake") == 2)
        assert server.stats().accepted == 1


async def test_a_client_that_trusts_another_authority_does_not_talk(certificates: Certificates) -> None:
    async with served(listen=["tls://127.0.0.1:0"], tls=tls_context(certificates.server)) as server:
        with pytest.raises(ssl.SSLCertVerificationError):
            async with over_tls(server, ssl.create_default_context()):
                pass
        await until(lambda: server.stats().dropped == {"handshake": 1})


async def test_clear_text_and_nonsense_on_tls_are_dropped_and_nothing_else_happens(certificates: Certificates) -> None:
    async with served(listen=["tls://127.0.0.1:0"], tls=tls_context(certificates.server)) as server:
        for nonsense in (request("health"), b"\0" * 1_000, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"):
            async with calling(server) as caller:
                await caller.send(nonsense)
                caller.finish()
                await caller.line()
        await until(lambda: server.stats().dropped == {"handshake": 3})
        async with over_tls(server, certificates.context()) as (reader, writer):
            assert await asked(reader, writer) is True


async def test_a_handshake_that_does_not_go_on_is_given_up(certificates: Certificates) -> None:
    limits = ServerLimits(handshake_seconds_max=0.05)
    tls = tls_context(certificates.server)
    async with served(listen=["tls://127.0.0.1:0"], tls=tls, limits=limits) as server, calling(server) as silent:
        assert await silent.line() == b""
        await until(lambda: server.stats().dropped == {"handshake": 1})


async def test_handshakes_count_as_connections(certificates: Certificates) -> None:
    tls = tls_context(certificates.server)
    limits = ServerLimits(connections_max=2)
    async with served(listen=["tls://127.0.0.1:0"], tls=tls, limits=limits) as server:
        async with calling(server), calling(server), calling(server) as third:
            assert await third.line() == b""
            await until(lambda: server.stats().dropped == {"connections_max": 1})
        await until(lambda: server.stats().dropped == {"connections_max": 1, "handshake": 2})
        async with over_tls(server, certificates.context()) as (reader, writer):
            assert await asked(reader, writer) is True


@one_process
async def test_a_server_that_stops_waits_for_no_handshake(certificates: Certificates) -> None:
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(
            served(listen=["tls://127.0.0.1:0"], tls=tls_context(certificates.server))
        )
        silent: Caller = await stack.enter_async_context(calling(server))
        await until(lambda: len(server._arriving) == 1)
        await server.__aexit__(None, None, None)
        assert await silent.line() == b""


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
async def test_old_versions_of_tls_are_not_spoken(certificates: Certificates, version: ssl.TLSVersion) -> None:
    assert tls_context(certificates.server).minimum_version > version


@pytest.mark.parametrize("which", ["none", "key", "certificate", "clients"])
async def test_files_that_hold_no_certificate_are_refused_and_named(
    which: str, certificates: Certificates, tmp_path: Path
) -> None:
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")
    arguments: dict[str, tuple[Any, ...]] = {
        "none": (tmp_path / "none.pem",),
        "key": (certificates.server, nonsense),
        "certificate": (nonsense,),
        "clients": (certificates.server, None, nonsense),
    }
    with pytest.raises(DefinitionError, match=r"TLS can't be set up with '.*\.pem': "):
        tls_context(*arguments[which])


async def test_a_key_with_a_password_is_refused_without_asking_for_it(
    certificates: Certificates, tmp_path: Path
) -> None:
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        PrivateFormat,
        load_pem_private_key,
    )

    key = load_pem_private_key(certificates.server.read_bytes(), None)
    locked = tmp_path / "locked.pem"
    locked.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")))
    with pytest.raises(DefinitionError, match="TLS can't be set up with"):
        tls_context(certificates.server, locked)

"""How a log in PostgreSQL is reached: TLS, passwords, several hosts, a pooler."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import anyio
import asyncpg
import pytest

from millstream.engine import CommitFailed, Engine, LogRefused, Replica
from millstream.engine.commits.commit import Head
from millstream.engine.stores.postgres import PostgresLog
from tests.certificates import Certificates
from tests.postgres import Server, new_address, new_server, script, server, sql
from tests.shop import Add, StockOf, shop
from tests.support import start, until
from tests.tls_proxy import tls_before

pytestmark = pytest.mark.anyio

Password: TypeAlias = Callable[[], str] | Callable[[], Awaitable[str]]
SECRET = "first-of-all"


@pytest.fixture(params=["asyncio"])
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": False}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.made_in(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def locked() -> Iterator[Server]:
    """A server that wants a password of the role ``shop``, which is checked by SCRAM."""
    made = new_server("locked")
    made.allow("host all shop 127.0.0.1/32 scram-sha-256")
    made.start()
    script(made.address("x"), f"CREATE ROLE shop LOGIN PASSWORD '{SECRET}'; GRANT CREATE ON DATABASE postgres TO shop")
    yield made
    made.stop("immediate")


def schema() -> str:
    return f"log_{secrets.token_hex(6)}"


def as_shop(locked: Server, name: str, password: str | None = None) -> str:
    user = "shop" if password is None else f"shop:{password}"
    return locked.address(name).replace("postgres@", f"{user}@")


async def used(log: PostgresLog | str) -> None:
    """An engine writes the log, with snapshots and views."""
    async with Engine(shop, log=log) as engine:
        receipt = await engine.execute(Add("a", 1))
        assert await engine.ask(StockOf("a"), after=receipt) == 1


# TLS.


async def test_a_certificate_that_an_authority_vouches_for_is_taken_and_no_other(certificates: Certificates) -> None:
    async with tls_before(server().port, certificates.server) as port:
        right = server().address(schema(), port, sslmode="verify-full", sslrootcert=str(certificates.authority))
        await used(right)
        wrong = right.replace(str(certificates.authority), str(certificates.other_authority))
        with pytest.raises(LogRefused, match="certificate verify failed") as refused:
            await Engine(shop, log=wrong).__aenter__()
        assert "see that it runs and lets this role in" in str(refused.value)
        with pytest.raises(LogRefused, match="certificate verify failed"):
            await PostgresLog(wrong).attach()
        elsewhere = right.replace("127.0.0.1", "127.0.0.2")  # the certificate names the first alone
        with pytest.raises(LogRefused):
            await Engine(shop, log=elsewhere).__aenter__()


async def test_where_tls_is_wanted_a_server_without_it_is_refused() -> None:
    with pytest.raises(LogRefused, match="the server can't be used"):
        await Engine(shop, log=server().address(schema(), None, sslmode="require")).__aenter__()


async def test_a_server_that_speaks_tls_itself(certificates: Certificates) -> None:
    made = new_server("tls")
    for name, file in (("server.key", certificates.server), ("server.crt", certificates.server)):
        made.give(file, name)
    made.options["ssl"] = "on"
    made.allow("hostssl all all 127.0.0.1/32 trust", "hostnossl all all 127.0.0.1/32 reject")
    try:
        made.start()
    except pytest.fail.Exception:
        pytest.skip("this build of PostgreSQL has no TLS")
    try:
        right = made.address(schema(), None, sslmode="verify-full", sslrootcert=str(certificates.authority))
        await used(right)
        with pytest.raises(LogRefused, match="certificate verify failed"):
            await used(right.replace(str(certificates.authority), str(certificates.other_authority)))
        with pytest.raises(LogRefused):
            await used(made.address(schema(), None, sslmode="disable"))
    finally:
        made.stop("immediate")


# Passwords.


async def test_a_password_is_in_the_address_or_comes_from_a_function_for_each_connection(locked: Server) -> None:
    await used(as_shop(locked, schema(), SECRET))
    asked: list[str] = []

    def plain() -> str:
        asked.append("plain")
        return SECRET

    async def later() -> str:
        asked.append("later")
        return SECRET

    passwords: list[Password] = [plain, later]
    for password in passwords:
        await used(PostgresLog(as_shop(locked, schema()), password=password))
    assert {name: asked.count(name) >= 3 for name in asked} == {"plain": True, "later": True}


async def test_a_wrong_password_is_refused_and_no_error_shows_it(locked: Server) -> None:
    name, wrong = schema(), "not-the-one"
    await used(as_shop(locked, name, SECRET))
    logs = [PostgresLog(as_shop(locked, name, wrong)), PostgresLog(as_shop(locked, name), password=lambda: wrong)]
    for log in logs:
        for opening in (log.open("shop"), log.attach()):
            with pytest.raises(LogRefused, match="password authentication failed") as refused:
                await opening
            error: BaseException | None = refused.value
            while error is not None:
                assert wrong not in f"{error} {error!r} {error.args}"
                error = error.__cause__ or error.__context__


async def test_a_password_that_can_not_be_had_is_a_connection_that_can_not_be_made(locked: Server) -> None:
    def gone() -> str:
        raise KeyError("the vault is closed")

    no_text: Any = lambda: None  # noqa: E731
    with pytest.raises(LogRefused, match=r"no password could be had: TypeError.*it is a NoneType, and is to be a text"):
        await PostgresLog(as_shop(locked, schema()), password=no_text).attach()
    with pytest.raises(LogRefused, match="no password could be had: KeyError"):
        await PostgresLog(as_shop(locked, schema()), password=gone).open("shop")


async def test_a_password_that_expires_is_asked_for_again(locked: Server) -> None:
    now = [SECRET]
    role = f"role_{secrets.token_hex(4)}"
    script(
        locked.address("x"),
        f"CREATE ROLE {role} LOGIN PASSWORD '{SECRET}'; GRANT CREATE ON DATABASE postgres TO {role}",
    )
    locked.allow(f"host all {role} 127.0.0.1/32 scram-sha-256")
    address = locked.address(schema()).replace("postgres@", f"{role}@")
    async with Engine(shop, log=PostgresLog(address, password=lambda: now[0])) as engine:
        await engine.execute(Add("a", 1))
        now[0] = "second-of-all"
        sql(locked.address("x"), f"ALTER ROLE {role} PASSWORD '{now[0]}'")
        sql(locked.address("x"), f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'")
        with anyio.fail_after(20):
            while True:
                try:
                    receipt = await engine.execute(Add("a", 1), command_id="again")
                    break
                except CommitFailed:
                    continue
        assert await engine.ask(StockOf("a"), after=receipt) == 2


# Several hosts.


async def test_of_several_hosts_the_one_that_is_there_is_taken() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and listens not
        dead = nobody.getsockname()[1]
        hosts, there = f"127.0.0.1:{dead},127.0.0.1:{server().port}", schema()
        await used(f"postgresql://postgres@{hosts}/postgres?schema={there}")
        log = PostgresLog(server().address(there))
        await log.attach()
        assert (await log.head()).number == 1, "the commit is on the one that is there"
        await log.close()


# A server that starts.


@pytest.fixture
def starting() -> Iterator[Server]:
    made = new_server("starting")
    made.hold()
    made.start(takes_sessions=False)
    yield made
    made.stop("immediate")


async def test_a_server_that_is_starting_is_waited_for(starting: Server) -> None:
    address = starting.address(schema())
    with pytest.raises(asyncpg.CannotConnectNowError):
        await asyncpg.connect(address.partition("?")[0])
    async with anyio.create_task_group() as group:
        log = PostgresLog(address)
        opening = start(group, log.open("conformance"))
        starting.let_in()
    assert opening.kind == "Leadership"
    assert await log.head() == Head()
    await log.close()


async def test_one_that_does_not_start_is_waited_for_so_long_and_refused(starting: Server) -> None:
    log = PostgresLog(starting.address(schema(), answer_seconds_max="0.2"))
    for opens in (lambda: log.open("conformance"), log.attach):
        with pytest.raises(LogRefused, match="57P03"):
            await opens()


# A pooler.


def _bouncer(folder: Path) -> Iterator[int]:
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if program is None:
        pytest.skip("there is no PgBouncer here")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    (folder / "users").write_text('"postgres" ""\n')
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\npostgres = host=127.0.0.1 port={server().port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
        f"listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {folder}/users\npool_mode = transaction\n"
        "default_pool_size = 3\nserver_round_robin = 1\nignore_startup_parameters = extra_float_digits,search_path\n"
    )
    folder.chmod(0o755)
    user: dict[str, Any] = {"user": "nobody", "group": "nogroup"} if os.geteuid() == 0 else {}
    process = subprocess.Popen([program, "-q", str(folder / "pgbouncer.ini")], stderr=subprocess.PIPE, cwd="/", **user)
    try:
        while True:
            with socket.socket() as attempt:
                if attempt.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None
        yield port
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def bouncer() -> Iterator[int]:
    """A PgBouncer before the server that gives each transaction another session; its port."""
    with TemporaryDirectory(prefix="bouncer-", dir="/tmp") as folder:
        yield from _bouncer(Path(folder))


async def test_a_replica_reads_through_a_pooler_whose_sessions_change(bouncer: int) -> None:
    name = schema()
    async with (
        Engine(shop, log=server().address(name)) as engine,
        Replica(shop, log=server().address(name, bouncer, pooled="true")) as one,
        Replica(shop, log=server().address(name, bouncer, pooled="true")) as other,
    ):
        for number in range(20):
            receipt = await engine.execute(Add("a", 1))
            if number % 5 == 0:
                with anyio.fail_after(5):
                    for replica in (one, other):
                        assert await replica.ask(StockOf("a"), after=receipt) == number + 1
        await until(lambda: one.position == other.position == 20)
        assert one.stats().problem is None


async def test_a_writer_does_not_go_through_a_pooler() -> None:
    address = new_address(pooled="true")
    for standby in (False, True):
        with pytest.raises(LogRefused, match="a writer needs sessions of its own; leave pooled out"):
            await Engine(shop, log=address, standby=standby).__aenter__()

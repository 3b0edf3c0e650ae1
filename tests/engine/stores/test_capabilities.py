"""A store of somebody else: found by its scheme, and used by what it can do and not by its class."""

from __future__ import annotations

import io
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

from millstream.engine import Engine, Log, LogCorrupt, LogRefused, MemoryLog, SqliteLog
from millstream.engine.stores import address as address_module
from millstream.engine.stores.address import GROUP, log_at
from millstream.engine.stores.capabilities import Copyable, Inspectable, Sized
from millstream.engine.stores.memory import MemoryStore
from millstream.engine.upkeep import attached, backup_log, export_log, import_log, verify_log
from tests.shop import Add, StockOf, shop

pytestmark = pytest.mark.anyio


class ShelfLog(MemoryLog):
    """A log in memory that has a name, can be looked into and copied, and says what it was asked for."""

    stores: dict[str, MemoryStore] = {}

    def __init__(self, address: str) -> None:
        super().__init__(self.stores.setdefault(address, MemoryStore()))
        self.address = address
        self.asked: list[str] = []
        self.damage: str | None = None

    @property
    def name(self) -> str:
        return self.address

    @property
    def path(self) -> Path:
        return Path(__file__)

    def size_bytes(self) -> int:
        return sum(len(commit.body) for commit in self.store.commits)

    def unchecked(self) -> ShelfLog:
        self.asked.append("unchecked")
        return self

    async def check_rows(self) -> None:
        self.asked.append("rows")

    async def check_structure(self, commits: int) -> None:
        self.asked.append(f"structure after {commits}")
        if self.damage is not None:
            raise LogCorrupt(self.name, commits + 1, self.damage)

    async def copy_to(self, target: Path) -> Log:
        exported = io.BytesIO()
        await export_log(self, "shop", exported)
        target.unlink()
        await import_log(io.BytesIO(exported.getvalue()), target)
        return SqliteLog(target)


def broken(address: str) -> Log:
    raise AssertionError(f"{address} was not asked for")


@pytest.fixture(autouse=True)
def _stores(monkeypatch: pytest.MonkeyPatch) -> None:
    ShelfLog.stores = {}
    here = EntryPoints(
        [
            EntryPoint("shelf", f"{__name__}:ShelfLog", GROUP),
            EntryPoint("gone", "no_such_module:Log", GROUP),
            EntryPoint("nameless", f"{__name__}:no_such_name", GROUP),
            EntryPoint("sqlite", f"{__name__}:broken", GROUP),
            EntryPoint("memory", f"{__name__}:broken", GROUP),
        ]
    )
    monkeypatch.setattr(address_module, "entry_points", lambda **wanted: here.select(**wanted))


async def filled() -> ShelfLog:
    async with Engine(shop, log="shelf:one") as engine:
        await engine.execute(Add("a", 1))
        await engine.execute(Add("a", 2))
    log = log_at("shelf:one")
    assert isinstance(log, ShelfLog)
    return log


async def test_an_engine_runs_on_a_store_that_a_package_adds() -> None:
    await filled()
    async with Engine(shop, log="shelf:one") as engine:
        assert await engine.ask(StockOf("a")) == 3
    async with Engine(shop, log="shelf:two") as engine:
        assert await engine.ask(StockOf("a")) == 0


async def test_verifying_looks_into_what_can_be_looked_into() -> None:
    log = await filled()
    assert (await verify_log(log)).commits == 2
    assert log.asked == ["rows", "structure after 2"]
    log.damage = "a board is loose"
    with pytest.raises(LogCorrupt, match="at commit 3: a board is loose"):
        await verify_log(log)


async def test_what_an_address_names_is_attached_without_a_look_and_what_is_given_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = await filled()
    async with attached("shelf:one") as (found, owner):
        assert isinstance(found, ShelfLog)
        assert (found.asked, owner) == (["unchecked"], "shop")
    async with attached(log) as (found, _):
        assert found is log
        assert log.asked == []


async def test_a_backup_is_what_the_store_copies(tmp_path: Path) -> None:
    log = await filled()
    found = await backup_log(log, tmp_path / "copy.db")
    assert found.digest == log.store.commits[-1].digest
    async with Engine(shop, log=tmp_path / "copy.db") as engine:
        assert await engine.ask(StockOf("a")) == 3


async def test_a_store_that_can_do_none_of_it_is_verified_by_its_commits_and_not_copied(tmp_path: Path) -> None:
    log = MemoryLog((await filled()).store)
    assert not isinstance(log, Copyable | Inspectable | Sized)
    assert (await verify_log(log)).commits == 2
    with pytest.raises(LogRefused, match="it has no file that could be copied; export it instead"):
        await backup_log(log, tmp_path / "copy.db")
    assert list(tmp_path.iterdir()) == []


def test_a_log_in_a_file_can_do_all_of_it(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db")
    assert isinstance(log, Copyable)
    assert isinstance(log, Inspectable)
    assert isinstance(log, Sized)
    assert log.size_bytes() == 0


def test_our_own_schemes_are_not_anybody_elses() -> None:
    assert isinstance(log_at("memory:"), MemoryLog)
    assert isinstance(log_at(":memory:"), MemoryLog)
    assert isinstance(log_at("sqlite:bank.db"), SqliteLog)
    assert isinstance(log_at("C:/bank.db"), SqliteLog)


async def test_a_scheme_may_be_written_in_upper_case() -> None:
    assert isinstance(log_at("MEMORY:"), MemoryLog)
    assert log_at("SQLite:Bank.db").name.endswith("Bank.db")
    postgres = log_at("PostgreSQL://ann:secret@h/Shop?schema=Orders")
    assert postgres.name == "postgresql://h/Shop?schema=Orders"
    await filled()
    async with Engine(shop, log="Shelf:one") as engine:
        assert await engine.ask(StockOf("a")) == 3


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("", "no store knows this address"),
        ("nats://somewhere", "no store knows this address"),
        ("NATS://somewhere", "no store knows this address"),
        ("memory:mine", "no store knows this address"),
        ("gone:one", "the store of 'gone', no_such_module:Log, can't be loaded: No module named 'no_such_module'"),
        ("nameless:one", "the store of 'nameless', .*, can't be loaded: .*no_such_name"),
    ],
)
def test_an_address_that_no_store_takes_is_refused(address: str, problem: str) -> None:
    with pytest.raises(LogRefused, match=problem):
        log_at(address)

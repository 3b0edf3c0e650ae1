"""Snapshots that another process takes for an engine: real processes, which are killed, held up and left alone."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from contextlib import suppress
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from millstream.engine import App, DefinitionError, Engine, Limits, LogRefused, Observer, SqliteLog
from millstream.engine.recovery import process
from millstream.engine.recovery.errors import SnapshotProcessFailed
from millstream.engine.recovery.naming import NamedApp
from millstream.engine.recovery.taking import take_attached
from millstream.engine.snapshots.part import Snapshot
from millstream.engine.stores.errors import SnapshotsLocked
from millstream.engine.stores.sqlite.snapshots import SqliteSnapshots
from millstream.engine.upkeep import backup_log
from millstream.views import View, applies
from tests.engine.recovery.held import FOLDER, Complex, broken_shop, held_shop
from tests.handlers.test_timers import later as yesterday
from tests.outside import Buy
from tests.outside import shop as outside
from tests.shop import Add, Added, Book, Shelf, Stock, StockOf, shop
from tests.stores import SqlitePlace
from tests.support import engine_state

pytestmark = pytest.mark.anyio

EVERY_FIVE = Limits(snapshot_events_every=5)
ROOT = Path(__file__).resolve().parents[3]


class Seen(Observer):
    """Waits for what another process brings about."""

    def __init__(self) -> None:
        self.position = self.failed = 0
        self._happened = anyio.Event()

    def snapshots_taken(self, *, position: int, parts: int, seconds: float) -> None:
        self.position = position
        self._happened.set()

    def snapshot_failed(self, *, part: str, error: BaseException) -> None:
        self.failed += 1
        self._happened.set()

    async def until(self, position: int = 0, failed: int = 0) -> None:
        with anyio.fail_after(30):
            while self.position < position or self.failed < failed:
                await self._happened.wait()
                self._happened = anyio.Event()


def told(log_lines: list[Any], event: str) -> list[Any]:
    return [line for line in log_lines if line["event"] == event]


async def stored(path: Path) -> list[Snapshot]:
    store = SqliteSnapshots(f"{path}-snapshots")
    await store.attach()
    try:
        return list(await store.kept())
    finally:
        await store.close()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a test names the place at which a process is held up."""
    monkeypatch.setenv(FOLDER, str(tmp_path))
    return tmp_path


def hold_at(folder: Path, *places: str) -> None:
    (folder / "hold").write_text(" ".join(places))
    if not (folder / "held").exists():
        os.mkfifo(folder / "held")


async def held(folder: Path) -> int:
    """The process that is held up there."""
    with anyio.fail_after(30):
        return int(await anyio.to_thread.run_sync((folder / "held").read_text, abandon_on_cancel=True))


def is_gone(process: int) -> bool:
    """Whether it has ended, and somebody has taken note of that."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return False


async def test_a_snapshot_that_another_process_has_taken_is_what_the_next_opening_begins_with(
    tmp_path: Path, log_lines: list[Any]
) -> None:
    place, seen = SqlitePlace(tmp_path), Seen()
    async with Engine(shop, log=place.log(), limits=EVERY_FIVE, snapshots="process", observers=[seen]) as engine:
        await engine.execute_many([Add("a", 1)] * 5)
        await seen.until(position=5)
        assert engine.stats().snapshot_position == 5
        await engine.execute(Add("a", 10))
        was = engine_state(engine)
        place.crash()
    (line,) = told(log_lines, "snapshots_taken")
    assert (line["position"], line["parts"]) == (5, 6)
    async with Engine(shop, log=place.log()) as engine:
        assert engine_state(engine) == was
        assert await engine.ask(StockOf("a")) == 15
    assert told(log_lines, "opened")[-1]["replayed"] == 1
    assert not told(log_lines, "snapshot_failed")
    assert not told(log_lines, "snapshot_set_aside")


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_another_process_stores_to_the_byte_what_the_loop_stores(tmp_path: Path, log_lines: list[Any]) -> None:
    path, other = tmp_path / "shop.db", tmp_path / "other.db"
    async with Engine(shop, log=path, snapshots=False) as engine:
        await engine.execute_many([Add(f"item {number % 7}", number) for number in range(1, 300)])
    await backup_log(path, other)
    for log, where in ((path, "loop"), (other, "process")):
        seen, limits = Seen(), Limits(snapshot_events_every=1)
        async with Engine(shop, log=log, limits=limits, snapshots=where, observers=[seen]):  # type: ignore[arg-type]
            await seen.until(position=299)
    assert await stored(other) == await stored(path)
    assert len(await stored(path)) == 6
    assert [line["parts"] for line in told(log_lines, "snapshots_taken")] == [6, 6]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("place", ["import", "apply", "pieces"])
async def test_a_process_that_is_killed_leaves_the_snapshots_before_and_the_next_one_goes_on(
    folder: Path, log_lines: list[Any], place: str
) -> None:
    path = folder / "shop.db"
    async with Engine(held_shop, log=path) as engine:
        await engine.execute_many([Add("a", 1)] * 3)
    before = await stored(path)
    hold_at(folder, place)
    seen = Seen()
    async with Engine(held_shop, log=path, limits=EVERY_FIVE, snapshots="process", observers=[seen]) as engine:
        await engine.execute_many([Add("a", 1)] * 5)
        os.kill(await held(folder), signal.SIGKILL)
        await seen.until(failed=1)
        kept = {snapshot.part: snapshot for snapshot in reversed(await stored(path))}
        assert kept["view Adds"] == next(snapshot for snapshot in before if snapshot.part == "view Adds")
        assert await engine.ask(StockOf("a"), after=8) == 8
        hold_at(folder)
        await engine.execute_many([Add("a", 1)] * 5)
        await seen.until(position=13)
        kept = {snapshot.part: snapshot for snapshot in reversed(await stored(path))}
        assert {snapshot.head.position for snapshot in kept.values()} == {13}
    (line,) = told(log_lines, "snapshot_failed")
    assert line["part"] == "all"
    assert line["error"] == f"SnapshotProcessFailed({str(path)!r}, -9, '')"
    assert not told(log_lines, "snapshot_set_aside")


async def test_closing_ends_the_process_and_takes_the_snapshot_itself(folder: Path, log_lines: list[Any]) -> None:
    hold_at(folder, "pieces")
    async with Engine(held_shop, log=folder / "shop.db", limits=EVERY_FIVE, snapshots="process") as engine:
        await engine.execute_many([Add("a", 1)] * 5)
        child = await held(folder)
    assert is_gone(child)
    assert {snapshot.head.position for snapshot in await stored(folder / "shop.db")} == {5}
    assert not told(log_lines, "snapshot_failed")


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_process_that_does_not_end_when_it_is_asked_to_is_killed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_ENDING_SECONDS_MAX", 0.05)
    hold_at(folder, "apply", "stubborn")
    async with Engine(held_shop, log=folder / "shop.db", limits=EVERY_FIVE, snapshots="process") as engine:
        await engine.execute_many([Add("a", 1)] * 5)
        child = await held(folder)
    assert is_gone(child)


PROGRAM = """
import anyio, sys
from millstream.engine import Engine, Limits
from tests.engine.recovery.held import held_shop
from tests.shop import Add

async def main():
    async with Engine(held_shop, log="shop.db", limits=Limits(snapshot_events_every=5), snapshots="process") as engine:
        await engine.execute_many([Add("a", 1)] * 5)
        await anyio.sleep_forever()

anyio.run(main)
"""


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_when_the_writers_process_is_killed_the_other_one_ends_by_itself(folder: Path) -> None:
    hold_at(folder, "pieces")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    store = SqliteSnapshots(folder / "shop.db-snapshots", like=folder / "shop.db")

    async def is_over() -> bool:
        with suppress(SnapshotsLocked):
            async with store.taking():
                return True
        return False

    with subprocess.Popen([sys.executable, "-c", PROGRAM], cwd=folder, env=environment, stdout=-3) as writer:
        try:
            await held(folder)
            assert not await is_over()
        finally:
            writer.kill()
    with anyio.fail_after(20):
        while not await is_over():
            await anyio.lowlevel.checkpoint()
    async with Engine(held_shop, log=folder / "shop.db") as engine:
        assert await engine.ask(StockOf("a")) == 5


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_what_a_process_fails_of_is_in_the_log_line(folder: Path, log_lines: list[Any]) -> None:
    hold_at(folder, "import", "failing")
    path, seen = folder / "shop.db", Seen()
    async with Engine(held_shop, log=path, limits=EVERY_FIVE, snapshots="process", observers=[seen]) as engine:
        await engine.execute_many([Add("a", 1)] * 5)
        await seen.until(failed=1)
        assert (await engine.execute(Add("a", 1))).position == 6
    error = told(log_lines, "snapshot_failed")[0]["error"]
    assert error.startswith(f"SnapshotProcessFailed({str(path)!r}, 1, ")
    assert "ArithmeticError: it fails at import" in error


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_what_can_not_be_put_into_pieces_is_told_once_and_left_out_from_then_on(
    tmp_path: Path, log_lines: list[Any]
) -> None:
    path, seen = tmp_path / "shop.db", Seen()
    async with Engine(broken_shop, log=path, limits=EVERY_FIVE, snapshots="process", observers=[seen]) as engine:
        for position in (5, 10):
            await engine.execute_many([Add("a", 1)] * 5)
            await seen.until(position)
        failed = told(log_lines, "snapshot_failed")
        assert [line["part"] for line in failed] == [f"view {Complex.__name__}"]
        assert "Encoding objects of type complex is unsupported" in failed[0]["error"]
        assert engine.stats().snapshot_position == 10


@pytest.mark.parametrize("where", ["loop", "process"])
async def test_where_snapshots_are_taken_from_outside_the_engine_leaves_that_one_out_and_goes_on(
    tmp_path: Path, log_lines: list[Any], where: Any
) -> None:
    path, seen = tmp_path / "shop.db", Seen()
    async with Engine(shop, log=path, limits=EVERY_FIVE, snapshots=where, observers=[seen]) as engine:
        async with SqliteSnapshots(f"{path}-snapshots", like=path).taking():
            await engine.execute_many([Add("a", 1)] * 5)
            await seen.until(failed=1)
        await engine.execute_many([Add("a", 1)] * 5)
        await seen.until(position=10)
    (line,) = told(log_lines, "snapshot_failed")
    assert ("SnapshotsLocked(" if where == "loop" else "are being taken already, and by one at a time") in line["error"]


async def test_snapshots_are_of_the_log_that_was_meant_and_of_no_other_in_its_place(tmp_path: Path) -> None:
    async with Engine(shop, log=tmp_path / "shop.db", snapshots=False) as engine:
        await engine.execute(Add("a", 1))
    with pytest.raises(LogRefused, match=r"it is log \w+, and not another; put that one back"):
        await take_attached(SqliteLog(tmp_path / "shop.db"), shop, Limits(), Observer(), log_id="another")
    assert not (tmp_path / "shop.db-snapshots").exists()


# What is refused before anything is opened.


def local() -> type[View]:
    class Local(View):
        @applies
        def added(self, event: Added) -> None: ...

    return Local


def other(**names: str) -> type[View]:
    made: type[View] = type("Adds", (local(),), {"__module__": __name__, "__qualname__": "Adds", **names})
    return made


@pytest.mark.parametrize(
    ("view", "problem"),
    [
        (local(), "it is made within a function"),
        (other(__module__="__main__"), "it is in the program's main module, which another process does not import"),
        (other(), "its module has something else under that name"),
        (other(__module__="tests.nowhere"), "its module has something else under that name"),
    ],
)
async def test_an_application_that_another_process_can_not_import_is_refused(
    tmp_path: Path, view: type[View], problem: str
) -> None:
    app = App(models=[Stock, Book], views=[Shelf, view], name="shop")
    with pytest.raises(DefinitionError) as caught:
        Engine(app, log=tmp_path / "shop.db", snapshots="process")
    assert f"another process can't import {view.__module__}:{view.__qualname__}: {problem}; " in str(caught.value)
    assert 'Engine(…, snapshots="loop")' in str(caught.value)
    assert list(tmp_path.iterdir()) == []


async def test_a_log_that_no_other_process_can_read_is_refused() -> None:
    with pytest.raises(LogRefused, match=r'memory: is refused: no other process can read it.*snapshots="loop"'):
        Engine(shop, log="memory:", snapshots="process")


async def test_another_word_for_where_snapshots_are_taken_is_refused() -> None:
    with pytest.raises(
        DefinitionError, match=r"""in a "process", in the "loop", or not at all \(False\), not 'fork'"""
    ):
        Engine(shop, log="memory:", snapshots="fork")  # type: ignore[arg-type]


async def test_a_program_without_an_interpreter_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with pytest.raises(DefinitionError, match="has no Python interpreter to start another process with"):
        Engine(shop, log=tmp_path / "shop.db", snapshots="process")


async def test_an_application_is_the_same_when_it_is_made_from_its_names() -> None:
    names = NamedApp.of(held_shop)
    assert names.models == ("tests.shop:Stock", "tests.shop:Book")
    made = names.load()
    assert (made.models, made.views, made.retired) == (held_shop.models, held_shop.views, held_shop.retired)
    assert (made.name, made.version) == ("shop", None)


@pytest.mark.parametrize("app", [outside, yesterday], ids=["effects", "commands of once"])
async def test_effects_and_commands_of_once_are_among_the_names(app: App) -> None:
    made = NamedApp.of(app).load()
    assert (made.effect_classes, made.retired_commands) == (app.effect_classes, app.retired_commands)
    assert made.effect_classes or made.retired_commands
    assert (made.events.keys(), made.commands.keys(), made.keeps_agenda) == (
        app.events.keys(), app.commands.keys(), app.keeps_agenda,
    )  # fmt: skip


async def test_another_process_takes_what_is_owed_and_due(tmp_path: Path, log_lines: list[Any]) -> None:
    place, seen = SqlitePlace(tmp_path), Seen()
    how: dict[str, Any] = {"limits": EVERY_FIVE, "effects": False}
    async with Engine(outside, log=place.log(), snapshots="process", observers=[seen], **how) as engine:
        await engine.execute_many([Buy(f"o{number}") for number in range(5)])
        await seen.until(position=5)
        live = [entry.id for entry in engine.agenda.entries()]
        assert len(live) == 5
        place.crash()
    async with Engine(outside, log=place.log(), **how) as engine:
        assert [entry.id for entry in engine.agenda.entries()] == live
    assert (told(log_lines, "opened")[-1]["replayed"], told(log_lines, "snapshot_failed")) == (0, [])


async def test_a_process_that_can_not_be_started_is_told(
    tmp_path: Path, log_lines: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, seen = tmp_path / "shop.db", Seen()
    async with Engine(shop, log=path, limits=EVERY_FIVE, snapshots="process", observers=[seen]) as engine:
        monkeypatch.setattr(sys, "executable", str(tmp_path / "nothing"))
        await engine.execute_many([Add("a", 1)] * 5)
        await seen.until(failed=1)
    (line,) = told(log_lines, "snapshot_failed")
    assert line["error"].startswith(f"SnapshotProcessFailed({str(path)!r}, None, ")


def test_the_error_says_how_the_process_ended_and_what_is_next() -> None:
    next_step = "; the snapshots before it are whole, and the next one is tried when it is due"
    for code, problem, text in (
        (-9, "", "ended with -9: it said nothing"),
        (None, "no such file", "was not started: no such file"),
        (0, "no complex", "did not do all of it: no complex"),
    ):
        error = SnapshotProcessFailed("shop.db", code, problem)
        assert str(error) == f"the process that takes snapshots of log shop.db {text}{next_step}"
        assert pickle.loads(pickle.dumps(error)).args == error.args


async def test_limits_that_are_no_numbers_of_json_and_paths_of_any_bytes_reach_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, tmp_path, os.fsdecode(b"/nowhere/\xff")])
    limits, seen = Limits(snapshot_events_every=5, slow_commit_ms=float("inf"), receipts_max=1e5), Seen()  # type: ignore[arg-type]
    log = SqlitePlace(tmp_path).log()
    async with Engine(shop, log=log, limits=limits, snapshots="process", observers=[seen]) as engine:
        await engine.execute_many([Add("a", 1)] * 5)
        await seen.until(position=5)
    assert seen.failed == 0


async def test_the_process_runs_nothing_of_the_folder_that_it_is_started_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('mine')")
    monkeypatch.setattr(sys, "path", [each or os.getcwd() for each in sys.path])
    monkeypatch.chdir(tmp_path)
    seen = Seen()
    log = SqlitePlace(tmp_path).log()
    async with Engine(shop, log=log, limits=EVERY_FIVE, snapshots="process", observers=[seen]) as engine:
        await engine.execute_many([Add("a", 1)] * 5)
        await seen.until(position=5, failed=0)
    assert seen.failed == 0


def test_a_module_that_only_this_process_has_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Path(sys.modules[Shelf.__module__].__file__ or "").read_text()
    (tmp_path / "plugged.py").write_text(source)
    spec = spec_from_file_location("plugged", tmp_path / "plugged.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "plugged", module)
    spec.loader.exec_module(module)
    with pytest.raises(DefinitionError, match=r"plugged:\w+: there is no such module where this process looks"):
        Engine(module.shop, log=tmp_path / "shop.db", snapshots="process")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="root alone gives files away")
async def test_what_root_takes_is_the_log_owner_s(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    async with Engine(shop, log=path, snapshots=False) as engine:
        await engine.execute(Add("a", 1))
    for each in tmp_path.iterdir():
        os.chown(each, 65534, 65534)
    await take_attached(SqliteLog(path), shop, Limits(), Observer())
    owners = {each.name: (each.stat().st_uid, each.stat().st_gid) for each in tmp_path.iterdir()}
    assert "shop.db-snapshots" in owners
    assert set(owners.values()) == {(65534, 65534)}

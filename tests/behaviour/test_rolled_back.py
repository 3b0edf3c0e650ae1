"""A deployment that is rolled back: what its predecessor can't read it refuses, with a snapshot as without."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog

from millstream.engine import App, Command, Engine, Event, EventsUnreadable, Key
from millstream.engine.recovery.readability import check_events
from millstream.engine.upkeep import attached
from millstream.handlers import WriteModel, applies, handles
from millstream.views import View

pytestmark = pytest.mark.anyio


class Pay(Command):
    account: Key


class Paid(Event):
    account: Key
    cents: int


class PaidWithNote(Event, tag="Paid"):
    account: Key
    cents: int
    note: str = ""


class PaidTolerantly(Event, tag="Paid", forbid_unknown_fields=False):
    account: Key
    cents: int


class PaidBy(Event, tag="Paid"):
    account: Key
    cents: int
    by: str


class How(Enum):
    CASH = "cash"


class HowToday(Enum):
    CASH = "cash"
    CARD = "card"


class PaidHow(Event, tag="Paid"):
    account: Key
    how: How


class PaidHowToday(Event, tag="Paid"):
    account: Key
    how: HowToday


class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    cents: int


class StrictToday(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    cents: int
    tax: int = 0


class PaidMoney(Event, tag="Paid"):
    account: Key
    money: Strict


class PaidMoneyToday(Event, tag="Paid"):
    account: Key
    money: StrictToday


def bank(event: Any, *args: Any) -> App:
    """An application whose only event is of that class; states and names are always the same."""

    class Bank(WriteModel):
        payments: int = 0

        @handles
        def pay(self, command: Pay) -> Iterator[Event]:
            yield event(command.account, *args)

        @applies
        def paid(self, event: Paid) -> None:
            self.payments += 1

    class Payments(View):
        count: int = 0

        @applies
        def paid(self, event: Paid) -> None:
            self.count += 1

    for cls in (Bank, Payments):
        (method,) = cls.__appliers__.values()
        cls.__appliers__ = {event: method}
    return App(models=[Bank], views=[Payments])


async def opened(app: App, path: Path) -> list[str]:
    """Opens the log and closes it; returns which snapshots were not used."""
    with structlog.testing.capture_logs() as lines:
        async with Engine(app, log=path) as engine:
            await engine.execute(Pay("ann"))
    return [line["part"] for line in lines if line["event"] == "snapshot_set_aside"]


CHANGES = pytest.mark.parametrize(
    ("new", "old"),
    [
        ((PaidWithNote, 1, "hi"), (Paid, 1)),
        ((Paid, 1), (PaidBy, 1, "bob")),
        ((PaidHowToday, HowToday.CARD), (PaidHow, How.CASH)),
        ((PaidMoneyToday, StrictToday(1, 2)), (PaidMoney, Strict(1))),
    ],
)


@CHANGES
async def test_what_the_old_classes_can_not_read_is_refused_with_a_snapshot_as_without(
    new: Any, old: Any, tmp_path: Path
) -> None:
    path = tmp_path / "bank.db"
    await opened(bank(*new), path)
    assert (tmp_path / "bank.db-snapshots").exists()
    with pytest.raises(EventsUnreadable) as with_snapshot:
        await opened(bank(*old), path)
    (tmp_path / "bank.db-snapshots").unlink()
    with pytest.raises(EventsUnreadable) as without:
        await opened(bank(*old), path)
    assert str(with_snapshot.value) == str(without.value)


@CHANGES
async def test_a_check_of_the_log_says_so_before(new: Any, old: Any, tmp_path: Path) -> None:
    path = tmp_path / "bank.db"
    await opened(bank(*new), path)
    async with attached(path) as (log, _):
        (found,) = (await check_events(log, bank(*old))).unreadable
    assert (found.type, found.count, found.known) == ("Paid", 1, True)


async def test_a_class_that_takes_unknown_fields_goes_on_from_its_snapshot(tmp_path: Path) -> None:
    path = tmp_path / "bank.db"
    await opened(bank(PaidWithNote, 1, "hi"), path)
    assert await opened(bank(PaidTolerantly, 1), path) == []


async def test_a_new_field_with_a_default_leaves_snapshots_of_use(tmp_path: Path) -> None:
    path = tmp_path / "bank.db"
    await opened(bank(Paid, 1), path)
    assert await opened(bank(PaidWithNote, 1, "hi"), path) == []
    assert await opened(bank(PaidWithNote, 1, "hi"), path) == []


async def test_a_field_of_another_type_costs_a_replay_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "bank.db"
    await opened(bank(PaidHow, How.CASH), path)
    assert await opened(bank(PaidHowToday, HowToday.CARD), path) == ["model Bank", "view Payments"]
    assert await opened(bank(PaidHowToday, HowToday.CARD), path) == []

"""``millstream agenda``: what it shows of a log without its application, and what it strikes."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from millstream.engine import Engine, Metadata
from millstream.engine.server import Tokens
from millstream.handlers import Schedule
from tests.engine.cli.running import Millstream, program, served
from tests.forest import Grow, forest, node
from tests.handlers.test_timers import Hold, Plan, Release, plans, theatre
from tests.outside import Bank, Buy, Confirm, Look, Payments, bugs, shop
from tests.selling import Order, selling
from tests.stores import SqlitePlace
from tests.support import agenda_of, until, write_state

NAME = "Selling.hold_seats"
SHOP = "tests.selling"


@pytest.fixture
def log(tmp_path: Path) -> str:
    async def written() -> None:
        async with Engine(selling, log=tmp_path / "shop.db") as engine:
            await engine.execute(Order("o1", "fire", 2), metadata=Metadata(actor="ann", extra={"till": "3"}))
            await engine.execute(Order("o2", "stray", 1))

    anyio.run(written)
    return str(tmp_path / "shop.db")


@pytest.fixture
def millstream(capsysbinary: pytest.CaptureFixture[bytes]) -> Millstream:
    return program(capsysbinary)


def test_it_lists_what_is_parked_and_shows_one_with_its_event_and_who_asked(log: str, millstream: Millstream) -> None:
    listed = millstream("agenda", "list", log)
    assert listed.code == 1
    assert [line.split()[:4] for line in listed.out.splitlines() if NAME in line] == [
        [f"event:1/{NAME}", "Placed", "parked", "KeyError('a"],
        [f"event:2/{NAME}", "Placed", "parked", "UnknownMessage:"],
    ]
    shown = millstream("agenda", "show", log, f"event:1/{NAME}")
    assert shown.code == 0
    assert (shown.figures["entry"], shown.figures["actor"]) == (f"event:1/{NAME}", "ann")
    assert '"show": "fire"' in shown.out
    (one, two) = millstream("agenda", "list", log, "--json").lines
    assert (one["position"], one["event"]["order"], one["metadata"]["extra"], one["parked"]) == (
        1, "o1", {"till": "3"}, True,
    )  # fmt: skip
    assert (two["error"], two["decided"]) == ("UnknownMessage", 1)
    assert millstream("agenda", "show", log, f"event:2/{NAME}", "--json").values == two


def test_it_drops_and_tries_again_and_says_when_nothing_is_left(log: str, millstream: Millstream) -> None:
    assert millstream("agenda", "drop", log, f"event:2/{NAME}").code == 0
    assert millstream("agenda", "retry", f"{SHOP}:selling", log, f"event:1/{NAME}").code == 1
    assert millstream("agenda", "retry", f"{SHOP}:mended", log, f"event:1/{NAME}").code == 0
    listed = millstream("agenda", "list", log)
    assert (listed.code, listed.out) == (0, "nothing is owed, nothing is due later, and nothing is parked\n")
    assert millstream("log", "verify", log).code == 0
    with closing(sqlite3.connect(log)) as connection:
        terms = connection.execute("SELECT json_extract(body, '$.tenure.term') FROM commits").fetchall()
    assert [term for (term,) in terms if term] == [1, 2, 3, 4], "each that wrote says so"


def test_an_entry_that_is_not_there_and_a_log_in_use_are_refused_by_name(log: str, millstream: Millstream) -> None:
    for command in ("show", "drop", "park"):
        missed = millstream("agenda", command, log, f"event:7/{NAME}")
        assert missed.code != 0
        assert f"no 'event:7/{NAME}'; it holds 2" in missed.err
    again = millstream("agenda", "retry", f"{SHOP}:selling", log, f"event:2/{NAME}")
    assert (again.code != 0, "say again=True" in again.err) == (True, True)

    async def held() -> tuple[int, str]:
        async with Engine(selling, log=log):
            listed = await anyio.to_thread.run_sync(millstream, "agenda", "list", log)
            dropped = await anyio.to_thread.run_sync(millstream, "agenda", "drop", log, f"event:1/{NAME}")
            return listed.code, dropped.err

    code, err = anyio.run(held)
    assert code == 1, "whoever looks may look while it is in use"
    assert "open" in err


def test_what_is_owed_can_be_parked_before_anybody_decides_it(tmp_path: Path, millstream: Millstream) -> None:
    place = SqlitePlace(tmp_path)

    async def written() -> None:
        async with Engine(forest, log=place.log()) as engine:
            await engine.execute(Grow("a", node("1", node("2", node("bad", how="break")), node("3", node("4")))))
            place.crash()  # before what is owed was decided

    anyio.run(written)
    log = str(place.path)
    owed = millstream("agenda", "list", log, "--json").lines
    assert [(line["position"], line["by"], line["parked"]) for line in owed] == [
        (3, "Tree.branch", False), (2, "Tree.branch", True),
    ]  # fmt: skip
    assert millstream("agenda", "park", log, "event:3/Tree.branch").code == 0
    assert [line["parked"] for line in millstream("agenda", "list", log, "--json").lines] == [True, True]

    async def opened() -> list[str]:
        async with Engine(forest, log=log) as engine:
            await engine.execute(Grow("a", node("z")))
            names: list[str] = write_state(engine).models[0].grown
            return names

    assert anyio.run(opened) == ["1", "2", "3", "z"], "nobody decides it"


HALL = "tests.handlers.test_timers"


@pytest.fixture
def timed(tmp_path: Path) -> str:
    async def written() -> None:
        async with Engine(theatre, log=tmp_path / "hall.db") as engine:
            await engine.execute_many([Hold("s", "o1"), Hold("s", "odd")], metadata=Metadata(actor="ann"))

    anyio.run(written)
    return str(tmp_path / "hall.db")


def test_timers_are_listed_shown_sent_before_their_time_and_dropped(timed: str, millstream: Millstream) -> None:
    listed = millstream("agenda", "list", timed)
    assert listed.code == 0
    assert [line.split()[:3] for line in listed.out.splitlines() if "timer:" in line] == [
        ["timer:hold/o1@s", "Release", "due"],
        ["timer:hold/odd@s", "Release", "due"],
    ]
    shown = millstream("agenda", "show", timed, "timer:hold/o1@s")
    assert (shown.figures["is"][:7], shown.figures["actor"]) == ("due 202", "ann")
    assert '"order": "o1"' in shown.out
    assert millstream("agenda", "fire-now", f"{HALL}:theatre", timed, "timer:hold/o1@s").code == 0
    assert millstream("agenda", "fire-now", f"{HALL}:theatre", timed, "timer:hold/odd@s").code == 1
    (parked,) = millstream("agenda", "list", timed, "--json").lines
    assert (parked["id"], parked["parked"], parked["command"]["order"]) == ("timer:hold/odd@s", True, "odd")
    assert millstream("agenda", "drop", timed, "timer:hold/odd@s").code == 0
    assert millstream("agenda", "list", timed, "--json").lines == []
    assert millstream("log", "verify", timed).code == 0


def test_a_check_before_an_update_says_which_commands_of_timers_the_application_does_not_know(
    timed: str, millstream: Millstream
) -> None:
    assert millstream("log", "check", f"{HALL}:theatre", timed).code == 0
    checked = millstream("log", "check", f"{HALL}:tomorrow", timed)
    assert (checked.code, "2 timers send Release" in checked.out) == (1, True)
    assert millstream("log", "check", f"{HALL}:tomorrow", timed, "--json").values["commands"] == {"Release": 2}
    for name in ("o1", "odd"):
        assert millstream("agenda", "park", timed, f"timer:hold/{name}@s").code == 0
    assert millstream("log", "check", f"{HALL}:tomorrow", timed).code == 0, "what is parked waits for somebody"


def test_the_log_shows_a_timer_as_what_led_to_an_event(timed: str, millstream: Millstream) -> None:
    assert millstream("agenda", "fire-now", f"{HALL}:theatre", timed, "timer:hold/o1@s").code == 0
    (*_, last) = millstream("log", "show", timed, "--json").lines
    with closing(sqlite3.connect(timed)) as connection:
        rows = connection.execute("SELECT type, causation, actor FROM events ORDER BY position").fetchall()
    assert rows[-1] == (last["type"], last["causation"], last["actor"]) == ("Released", "timer:hold/o1", "ann")


def test_effects_that_are_owed_or_parked_and_what_came_of_one_are_listed_shown_and_settled(
    tmp_path: Path, millstream: Millstream
) -> None:
    log = str(tmp_path / "outside.db")

    async def written() -> None:
        bank = Bank()
        bank.fails["o1"] = 1
        bank.says["o2"] = Confirm("o2", "c2")
        bugs["o2"] = "raises"
        async with Engine(shop, log=log, effects=[Payments(bank)]) as engine:
            await engine.execute_many([Buy("o1"), Buy("o2"), Buy("o1")])
            await until(lambda: len(agenda_of(engine).parked) == 2)
            await engine.execute(Look())

    try:
        anyio.run(written)
    finally:
        bugs.clear()
    name = "Payments.charge"
    listed = millstream("agenda", "list", log)
    assert listed.code == 1
    assert sorted(line.split()[:3] for line in listed.out.splitlines() if name in line) == [
        [f"effect:1/{name}", "PaymentRequested", "parked"],
        [f"effect:3/{name}", "PaymentRequested", "owed"],
        [f"outcome:2/{name}", "Confirm", "parked"],
    ]
    shown = millstream("agenda", "show", log, f"effect:3/{name}")
    assert shown.figures["is known outside as"].endswith(f"-2-{name}")
    assert millstream("agenda", "show", log, f"effect:1/{name}").figures["attempts"] == "1"
    assert '"charge": "c2"' in millstream("agenda", "show", log, f"outcome:2/{name}").out
    assert millstream("agenda", "show", log, f"outcome:2/{name}", "--json").values["commands"][0]["order"] == "o2"
    assert millstream("agenda", "retry", "tests.outside:shop", log, f"outcome:2/{name}").code == 0
    assert millstream("agenda", "retry", "tests.outside:shop", log, f"effect:1/{name}").code == 0
    assert millstream("agenda", "park", log, f"effect:3/{name}").code == 0
    assert millstream("agenda", "drop", log, f"effect:1/{name}").code == 0
    assert [each["id"] for each in millstream("agenda", "list", log, "--json").lines] == [f"effect:3/{name}"]
    assert millstream("log", "verify", log).code == 0


def test_a_list_is_as_long_as_somebody_wants_it_and_of_the_kinds_that_are_named(
    timed: str, log: str, millstream: Millstream
) -> None:
    listed = millstream("agenda", "list", timed, "--limit", "1", "--json")
    assert ([line["id"] for line in listed.lines], "there are more" in listed.err) == (["timer:hold/o1@s"], True)
    listed = millstream("agenda", "list", timed, "--kind", "effect")
    assert (listed.code, listed.out, listed.err) == (0, "no such entries\n", "")
    listed = millstream("agenda", "list", log, "--kind", "timer", "--parked")
    assert (listed.code, listed.out) == (1, "no such entries\n"), "something is parked"
    assert len(millstream("agenda", "list", log, "--kind", "event", "--json").lines) == 2


def test_what_was_refused_of_timers_and_effects_is_told_from_the_log(tmp_path: Path, millstream: Millstream) -> None:
    hall, till = str(tmp_path / "hall.db"), str(tmp_path / "till.db")

    async def written() -> None:
        later, never = timedelta(minutes=10), Release("s", "never")
        plans["of other keys"] = [Schedule(never, after=later, name="n", key=key) for key in (None, "k")]
        async with Engine(theatre, log=hall) as engine:
            await engine.execute_many([Hold("s", order) for order in ("never", "fine")])
            await engine.execute_many([Hold("t", "never"), Hold("s", "odd"), Plan("s", "of other keys")])
            for entry in engine.agenda.entries():
                await engine.agenda.settle(entry.id, "fire_now")
        bugs["o1"] = "refuses"
        async with Engine(shop, log=till, effects=[Payments(Bank())]) as engine:
            await engine.execute_many([Buy("o1"), Buy("o2")])
            await until(lambda: not len(agenda_of(engine)))
            await engine.execute(Look())

    try:
        anyio.run(written)
    finally:
        bugs.clear()
    refused = millstream("agenda", "list", hall, "--refused", "--json").lines
    assert [(line["id"], line["type"], line["code"], line["message"]) for line in refused] == [
        ("timer:hold/never@s", "Release", "never", "it stays"),
        ("timer:hold/never@t", "Release", "never", "it stays"),
        ("timer:n", "Release", "never", "it stays"),
        ("timer:n@k", "Release", "never", "it stays"),
    ]
    assert refused[0]["recorded_at"] < refused[1]["recorded_at"]
    (last,) = millstream("agenda", "list", hall, "--refused", "--limit", "1", "--json").lines
    assert last == refused[3]
    shown = millstream("agenda", "list", till, "--refused")
    assert (shown.code, "effect:1/Payments.charge" in shown.out, "too_late: it was cancelled" in shown.out) == (
        0, True, True,
    )  # fmt: skip
    assert "effect:2" not in shown.out


class TestOfAServer:
    def test_it_is_listed_shown_and_settled_without_the_application(
        self, tmp_path: Path, millstream: Millstream
    ) -> None:
        socket = f"unix://{tmp_path}/s"
        with served(theatre, tmp_path / "hall.db", tmp_path / "s"):
            assert "nothing is parked" in millstream("agenda", "list", socket).out
            for order in ("o1", "odd", "o3"):
                millstream("execute", "Hold", "show=s", f"order={order}", "--actor", "ann", "--address", socket)
            listed = millstream("agenda", "list", socket, "--limit", "2")
            assert [line.split()[:3] for line in listed.out.splitlines() if "timer:" in line] == [
                ["timer:hold/o1@s", "Release", "due"],
                ["timer:hold/odd@s", "Release", "due"],
            ]
            assert (listed.code, "there are more" in listed.err) == (0, True)
            shown = millstream("agenda", "show", socket, "timer:hold/o1@s")
            assert (shown.code, shown.figures["actor"], '"order": "o1"' in shown.out) == (0, "ann", True)
            fired = millstream("agenda", "fire-now", socket, "timer:hold/o1@s", "--json")
            assert (fired.code, fired.values) == (0, {"entry": "timer:hold/o1@s", "how": "done"})
            assert millstream("agenda", "fire-now", socket, "timer:hold/odd@s").code == 1
            again = millstream("agenda", "retry", socket, "timer:hold/odd@s")
            assert (again.code, again.out) == (1, "timer:hold/odd@s is parked\n")
            assert millstream("agenda", "list", socket, "--parked").code == 1
            assert millstream("agenda", "drop", socket, "timer:hold/odd@s").out == "timer:hold/odd@s is dropped\n"
            assert [line["id"] for line in millstream("agenda", "list", socket, "--json").lines] == ["timer:hold/o3@s"]
            missed = millstream("agenda", "show", socket, "timer:hold/o1@s")
            assert (missed.code, "no 'timer:hold/o1@s'; it holds 1" in missed.err) == (2, True)

    def test_who_may_only_read_sees_no_commands_and_settles_nothing(
        self, tmp_path: Path, millstream: Millstream, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        socket = f"unix://{tmp_path}/s"
        tokens = Tokens(["reader:a token for reading", "writer:a token for writing"])
        with served(theatre, tmp_path / "hall.db", tmp_path / "s", tokens):
            monkeypatch.setenv("MILLSTREAM_TOKEN", "a token for writing")
            millstream("execute", "Hold", "show=s", "order=o1", "--address", socket)
            monkeypatch.setenv("MILLSTREAM_TOKEN", "a token for reading")
            shown = millstream("agenda", "show", socket, "timer:hold/o1@s")
            assert (shown.code, "shown to those who may give commands" in shown.out) == (0, True)
            refused = millstream("agenda", "drop", socket, "timer:hold/o1@s")
            assert (refused.code, "role 'reader' may not call 'settle'" in refused.err) == (6, True)

    def test_what_makes_no_sense_of_a_server_or_of_a_log_is_a_wrong_argument(
        self, log: str, millstream: Millstream
    ) -> None:
        for arguments, problem in (
            (("park", "unix://nowhere", "timer:x"), "a server parks nothing"),
            (("list", "unix://nowhere", "--refused"), "stands in the log"),
            (("list", log, "--refused", "--parked"), "what was refused is not"),
            (("retry", "a:b", "unix://nowhere", "timer:x"), "a server knows its application"),
            (("retry", log, "timer:x"), "say APP LOG ENTRY"),
            (("fire-now", "a:b", "c:d", log, "timer:x"), "say APP LOG ENTRY"),
        ):
            ran = millstream("agenda", *arguments)
            assert (ran.code, problem in " ".join(ran.err.replace("│", " ").split())) == (2, True), ran.err
        assert millstream("agenda", "list", "unix://nowhere").code == 7

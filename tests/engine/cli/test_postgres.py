"""The program on a log in PostgreSQL: what it does to a file it does there, too."""

from __future__ import annotations

import re
from pathlib import Path

import anyio
import pytest

from millstream.engine import Engine
from tests.engine.cli.running import Millstream, program
from tests.postgres import new_address
from tests.selling import Order, selling

APP = "tests.selling:selling"


@pytest.fixture
def millstream(capsysbinary: pytest.CaptureFixture[bytes]) -> Millstream:
    return program(capsysbinary)


@pytest.fixture
def address() -> str:
    made = new_address()

    async def fill() -> None:
        async with Engine(selling, log=made) as engine:
            for number in range(30):
                await engine.execute(Order(f"o{number}", "fire" if number == 7 else "s", 1), command_id=str(number))

    anyio.run(fill)
    return made


def test_a_log_is_moved_to_a_file_and_back_with_the_same_digest(
    millstream: Millstream, address: str, tmp_path: Path
) -> None:
    export, file, other = str(tmp_path / "log.jsonl"), str(tmp_path / "log.db"), new_address()
    digests = {millstream("log", "verify", address, "--json").values["digest"]}
    assert millstream("log", "export", address, export).code == 0
    for log in (file, other):
        assert millstream("log", "import", export, log).code == 0
        digests.add(millstream("log", "verify", log, "--json").values["digest"])
    assert len(digests) == 1
    shown = {log: millstream("log", "show", log, "--limit", "100", "--json").out for log in (address, file, other)}
    assert shown[address].count("\n") == 59
    assert len(set(shown.values())) == 1


def test_what_a_log_owes_and_holds_is_shown_and_checked(millstream: Millstream, address: str) -> None:
    (parked,) = millstream("agenda", "list", address, "--json").lines
    assert parked["id"] == "event:15/Selling.hold_seats"
    assert millstream("agenda", "drop", address, parked["id"]).code == 0
    assert millstream("agenda", "list", address, "--json").out == ""
    assert millstream("log", "check", APP, address).code == 0
    assert millstream("log", "states", APP, address, "--json").code == 0
    assert millstream("snapshot", "take", APP, address).code == 0


def test_the_log_may_be_named_by_the_environment(
    millstream: Millstream, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MILLSTREAM_LOG", address)
    assert millstream("log", "verify", "--json").values["events"] == 59
    assert millstream("log", "check", APP).code == 0


def test_what_has_no_file_is_not_backed_up_and_says_what_to_do(
    millstream: Millstream, address: str, tmp_path: Path
) -> None:
    ran = millstream("log", "backup", address, str(tmp_path / "copy.db"))
    assert ran.code == 3
    assert "it has no file that could be copied; export it instead" in ran.err


def test_no_output_holds_a_password(millstream: Millstream, address: str) -> None:
    secret = address.replace("postgres@", "postgres:hush@")
    for arguments in (["log", "verify", secret], ["log", "verify", secret, "--json"], ["log", "sql", secret]):
        ran = millstream(*arguments)
        assert ran.code == 0
        assert "hush" not in ran.out + ran.err
    assert "hush" not in millstream("log", "verify", re.sub("schema=.*", "schema=none", secret)).err


def test_the_statements_that_make_a_log_are_shown_for_a_database_only(millstream: Millstream) -> None:
    shown = millstream("log", "sql", "postgresql://h/shop?schema=orders")
    assert shown.out.startswith('CREATE SCHEMA "orders";')
    assert "CREATE VIEW" in shown.out
    assert millstream("log", "sql", "bank.db").code == 3

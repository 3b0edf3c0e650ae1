from __future__ import annotations

import io
import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest

from millstream.engine import Engine, SqliteLog
from tests.engine.cli.running import Millstream, program
from tests.engine.upkeep.chains import FIVE, change, commits_in, in_file
from tests.shop import Add, Move, shop

LAST = FIVE[-1].digest.hex()


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A log of five commits in the current folder, called log.db."""
    monkeypatch.chdir(tmp_path)
    anyio.run(in_file, tmp_path / "log.db", FIVE)
    return Path("log.db")


@pytest.fixture
def millstream(capsysbinary: pytest.CaptureFixture[bytes]) -> Millstream:
    return program(capsysbinary)


def test_verify_tells_what_is_whole(log: Path, millstream: Millstream) -> None:
    ran = millstream("log", "verify", "log.db")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("log.db is whole: each of its commits follows the one before\n")
    assert {name: ran.figures[name] for name in ("commits", "events", "recorded at", "digest")} == {
        "commits": "5",
        "events": "7",
        "recorded at": "2026-01-01T00:00:04.000000Z",
        "digest": LAST,
    }


def test_verify_tells_programs_the_same_in_one_line(log: Path, millstream: Millstream) -> None:
    ran = millstream("log", "verify", "log.db", "--json")
    assert (ran.code, ran.out.count("\n")) == (0, 1)
    values = ran.values
    assert values.pop("seconds") > 0
    assert values.pop("mb_per_second") > 0
    assert values == {
        "log": "log.db",
        "commits": 5,
        "events": 7,
        "size_bytes": sum(len(commit.body) for commit in FIVE),
        "recorded_at": "2026-01-01T00:00:04.000000Z",
        "digest": LAST,
        "expected_at": None,
    }


def test_verify_finds_the_digest_that_was_noted(log: Path, millstream: Millstream) -> None:
    assert millstream("log", "verify", "log.db", "--expect", FIVE[2].digest.hex(), "--json").values["expected_at"] == 3
    ran = millstream("log", "verify", "log.db", "--expect", FIVE[2].digest.hex().upper())
    assert "the expected digest is that of commit 3\n" in ran.out


def test_a_damaged_log_is_exit_code_1_and_one_line_that_names_the_commit(log: Path, millstream: Millstream) -> None:
    change(log, "DELETE FROM commits WHERE number = 3")
    ran = millstream("log", "verify", "log.db")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == (
        "millstream: log log.db is damaged at commit 3: commit 4 stands where 3 should; commits 1 to 2 are whole: "
        "restore a backup\n"
    )


def test_a_log_that_lacks_the_digest_that_was_noted_is_exit_code_1(log: Path, millstream: Millstream) -> None:
    ran = millstream("log", "verify", "log.db", "--expect", "ab" * 32)
    assert (ran.code, ran.out) == (1, "")
    assert "none with the digest " + "ab" * 32 in ran.err


@pytest.mark.parametrize("digest", ["", "ab", "xy" * 32, "ab" * 33])
def test_what_is_no_digest_is_a_wrong_argument(log: Path, millstream: Millstream, digest: str) -> None:
    ran = millstream("log", "verify", "log.db", "--expect", digest)
    assert ran.code == 2
    assert "a digest has 64 hexadecimal digits" in ran.err


def test_backup_makes_a_copy_that_verifies(log: Path, millstream: Millstream) -> None:
    ran = millstream("log", "backup", "log.db", "copy.db")
    assert (ran.code, ran.figures["digest"]) == (0, LAST)
    assert ran.out.startswith("copy.db is a whole copy of log.db; note its digest elsewhere, for verify --expect\n")
    assert millstream("log", "verify", "copy.db", "--expect", LAST).code == 0
    again = millstream("log", "backup", "log.db", "copy2.db", "--json")
    assert {name: again.values[name] for name in ("log", "target", "commits")} == {
        "log": "log.db",
        "target": "copy2.db",
        "commits": 5,
    }


def test_backup_does_not_replace_a_file(log: Path, millstream: Millstream) -> None:
    ran = millstream("log", "backup", "log.db", "log.db")
    assert (ran.code, ran.out) == (3, "")
    assert ran.err == (
        "millstream: file log.db can't be made: it is there already; name a file that is not there, or remove it first\n"
    )


def test_an_export_goes_to_a_file_and_from_there_into_a_log(log: Path, millstream: Millstream) -> None:
    ran = millstream("log", "export", "log.db", "log.jsonl")
    assert (ran.code, ran.figures["digest"]) == (0, LAST)
    ran = millstream("log", "import", "log.jsonl", "new.db", "--json")
    assert (ran.code, ran.values["digest"], ran.values["file"], ran.values["log"]) == (0, LAST, "log.jsonl", "new.db")
    assert anyio.run(commits_in, Path("new.db")) == FIVE
    ran = millstream("log", "import", "log.jsonl", "new.db")
    assert (ran.code, ran.figures["commits"]) == (0, "5")
    assert ran.out.startswith("new.db holds what log.jsonl holds\n")


def test_an_export_to_standard_output_is_nothing_but_the_export(log: Path, millstream: Millstream) -> None:
    assert millstream("log", "export", "log.db", "log.jsonl").code == 0
    for arguments in (["log.db"], ["log.db", "-"]):
        ran = millstream("log", "export", *arguments)
        assert (ran.code, ran.out, ran.err) == (0, Path("log.jsonl").read_text("utf-8"), "")
    ran = millstream("log", "export", "log.db", "-", "--json")
    assert ran.out == Path("log.jsonl").read_text("utf-8")
    assert json.loads(ran.err)["digest"] == LAST


def test_an_import_from_standard_input(log: Path, millstream: Millstream, monkeypatch: pytest.MonkeyPatch) -> None:
    text = millstream("log", "export", "log.db").out
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert millstream("log", "import", "-", "new.db").code == 0
    assert anyio.run(commits_in, Path("new.db")) == FIVE


def test_an_export_of_a_damaged_log_leaves_no_file_and_on_a_stream_what_is_whole(
    log: Path, millstream: Millstream
) -> None:
    change(log, "UPDATE commits SET body = '[]' WHERE number = 4")
    ran = millstream("log", "export", "log.db", "log.jsonl")
    assert (ran.code, ran.out) == (1, "")
    assert sorted(Path().glob("*log.jsonl*")) == sorted(Path().glob(".log*")) == []
    ran = millstream("log", "export", "log.db")
    assert (ran.code, len(ran.out.splitlines())) == (1, 1 + 3)


def test_an_import_of_something_else_is_refused_at_its_line(log: Path, millstream: Millstream) -> None:
    Path("notes.txt").write_text("these are my notes\n", "utf-8")
    ran = millstream("log", "import", "notes.txt", "new.db")
    assert (ran.code, ran.err) == (
        3,
        "millstream: export notes.txt is refused at line 1: it is not an export of a millstream log; name another file\n",
    )
    assert not Path("new.db").exists()


def test_a_damaged_export_is_exit_code_1(log: Path, millstream: Millstream) -> None:
    text = millstream("log", "export", "log.db").out
    Path("log.jsonl").write_text(text.replace('"amount":3', '"amount":30'), "utf-8")
    ran = millstream("log", "import", "log.jsonl", "new.db")
    assert ran.code == 1
    assert ran.err.startswith("millstream: export log.jsonl is damaged at line 3: its digest does not match")


def test_an_import_of_a_file_that_is_not_there_is_a_wrong_argument(log: Path, millstream: Millstream) -> None:
    ran = millstream("log", "import", "nothing.jsonl", "new.db")
    assert ran.code == 2
    assert "there is no file 'nothing.jsonl'" in ran.err


def test_show_lists_events_as_a_table(log: Path, millstream: Millstream) -> None:
    ran = millstream("log", "show", "log.db", "--limit", "2")
    assert ran.code == 0
    assert [line.split() for line in ran.out.splitlines()] == [
        ["position", "commit", "recorded", "at", "type", "key", "command", "id", "event"],
        [
            "1",
            "1",
            "2026-01-01T00:00:00.000000Z",
            "Deposited",
            "ann",
            '{"type":"Deposited","account":"ann","amount":1}',
        ],
        [
            "2",
            "1",
            "2026-01-01T00:00:00.000000Z",
            "Deposited",
            "bob",
            '{"type":"Deposited","account":"bob","amount":2}',
        ],
    ]
    assert ran.err == "more follow: --after 2\n"


def test_show_gives_programs_a_line_for_each_event(log: Path, millstream: Millstream) -> None:
    ran = millstream("log", "show", "log.db", "--after", "5", "--json")
    assert [json.loads(line) for line in ran.out.splitlines()] == [
        {
            "position": 6,
            "commit": 4,
            "recorded_at": "2026-01-01T00:00:03.000000Z",
            "type": "Deposited",
            "key": "Zoë",
            "command_id": None,
            "data": {"type": "Deposited", "account": "Zoë", "amount": 6},
            "command": "Deposit",
        },
        {
            "position": 7,
            "commit": 5,
            "recorded_at": "2026-01-01T00:00:04.000000Z",
            "type": "Deposited",
            "key": "bob",
            "command_id": None,
            "data": {"type": "Deposited", "account": "bob", "amount": 7},
            "command": "Deposit",
        },
    ]
    assert ran.err == ""


def test_show_picks_events_by_key_and_type(log: Path, millstream: Millstream) -> None:
    def positions(*arguments: str) -> list[int]:
        lines = millstream("log", "show", "log.db", "--json", *arguments).out.splitlines()
        return [json.loads(line)["position"] for line in lines]

    assert positions("--key", "bob") == [2, 7]
    assert positions("--key", "Zoë", "--limit", "2") == [4, 5]
    assert positions("--type", "Deposited", "--after", "6") == [7]
    assert positions("--type", "Withdrawn") == []


def test_show_says_when_there_is_nothing(log: Path, millstream: Millstream) -> None:
    ran = millstream("log", "show", "log.db", "--key", "nobody")
    assert (ran.code, ran.out, ran.err) == (0, "", "no such events\n")


@pytest.mark.parametrize("command", ["show", "tail"])
def test_a_position_above_the_head_is_refused(log: Path, millstream: Millstream, command: str) -> None:
    assert millstream("log", "show", "log.db", "--after", "7").err == "no such events\n"
    ran = millstream("log", command, "log.db", "--after", "8")
    assert (ran.code, ran.out) == (2, "")
    assert "position 8 is above the head of the log, which is at 7" in ran.err


def test_what_a_log_says_does_not_reach_the_terminal_as_commands(
    tmp_path: Path, millstream: Millstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    async def write() -> None:
        async with Engine(shop, log="shop.db") as engine:
            await engine.execute(Add("\x1b[2J[bold]nail", 1), command_id="\x07\u202e")

    anyio.run(write)
    ran = millstream("log", "show", "shop.db")
    assert "\\x1b[2J[bold]nail" in ran.out
    assert "\\x07\\u202e" in ran.out
    assert not set("\x1b\x07\u202e") & set(ran.out)


# Whose log it is.


def test_check_tells_what_an_application_can_read(
    tmp_path: Path, millstream: Millstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    async def write() -> None:
        async with Engine(shop, log="shop.db") as engine:
            await engine.execute_many([Add("nail", 3), Move("nail", "screw"), Add("nail", 1)])

    anyio.run(write)
    ran = millstream("log", "check", "tests.shop:shop", "shop.db")
    assert ran.code == 0
    assert [line.split() for line in ran.out.splitlines()] == [
        ["type", "events", "problem"],
        ["Added", "3"],
        ["Taken", "1"],
        ["4", "events", "in", "1", "commits;", "0", "kinds", "can't", "be", "read"],
    ]
    assert millstream("log", "check", "tests.shop:shop", "shop.db", "--json").values == {
        "log": "shop.db",
        "app": "tests.shop:shop",
        "commits": 1,
        "events": 4,
        "types": {"Added": 3, "Taken": 1},
        "unreadable": [],
        "commands": {},
    }


def test_check_finds_events_that_an_application_cannot_read(log: Path, millstream: Millstream) -> None:
    log.unlink()
    anyio.run(in_file, log, FIVE, "shop")
    ran = millstream("log", "check", "tests.shop:shop", "log.db")
    assert ran.code == 1
    assert "Deposited       7  7 can't be read, the first at position 1: the application has no such event\n" in ran.out
    ran = millstream("log", "check", "tests.shop:shop", "log.db", "--json")
    assert ran.code == 1
    assert [(each["type"], each["count"], each["position"]) for each in ran.values["unreadable"]] == [
        ("Deposited", 7, 1)
    ]


def test_check_with_another_applications_log_is_refused(log: Path, millstream: Millstream) -> None:
    ran = millstream("log", "check", "tests.shop:shop", "log.db")
    assert (ran.code, ran.out) == (3, "")
    assert "it belongs to application 'bank', not to 'shop'" in ran.err


def test_check_without_an_application_is_exit_code_5(log: Path, millstream: Millstream) -> None:
    ran = millstream("log", "check", "nowhere:app", "log.db")
    assert (ran.code, ran.err) == (
        5,
        "millstream: there is no module 'nowhere': run millstream in the folder that holds it, or install it\n",
    )


# What can't be opened.


@pytest.mark.parametrize(
    "arguments",
    [
        ["verify", "LOG"],
        ["backup", "LOG", "new"],
        ["export", "LOG"],
        ["show", "LOG"],
        ["check", "tests.shop:shop", "LOG"],
    ],
)
@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("nothing.db", "it is not there"),
        ("notes.db", "it is not a database"),
        ("memory:", "memory: is refused: "),
        ("nats://somewhere", "no store knows this address"),
    ],
)
def test_what_is_no_log_is_exit_code_3_for_each_command(
    tmp_path: Path,
    millstream: Millstream,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    address: str,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes.db").write_text("these are my notes" * 100, "utf-8")
    ran = millstream("log", *(address if word == "LOG" else word for word in arguments))
    assert (ran.code, ran.out) == (3, "")
    assert ran.err.count("\n") == 1
    assert message in ran.err
    assert [each.name for each in tmp_path.iterdir()] == ["notes.db"]


def test_a_log_that_is_open_in_a_writer_can_be_read_and_not_imported_into(log: Path, millstream: Millstream) -> None:
    text = millstream("log", "export", "log.db").out
    Path("log.jsonl").write_text(text, "utf-8")

    async def beside_a_writer(work: Callable[[], Awaitable[None]]) -> None:
        writer = SqliteLog("log.db")
        await writer.open("bank")
        try:
            await work()
        finally:
            await writer.close()

    async def use() -> None:
        def each() -> list[int]:
            commands = [["verify", "log.db"], ["backup", "log.db", "copy.db"], ["show", "log.db"], ["export", "log.db"]]
            return [millstream("log", *words).code for words in [*commands, ["import", "log.jsonl", "log.db"]]]

        assert await anyio.to_thread.run_sync(each) == [0, 0, 0, 0, 3]

    anyio.run(beside_a_writer, use)


def test_a_store_that_fails_is_exit_code_4(log: Path, millstream: Millstream, monkeypatch: pytest.MonkeyPatch) -> None:
    program = (
        "import resource, sys\n"
        "from millstream.engine.cli import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    pytest.importorskip("resource", reason="the limit that is reached is one of POSIX")
    for words in (["backup", "log.db", "copy.db"], ["export", "log.db", "log.jsonl"]):
        done = subprocess.run(
            [sys.executable, "-c", program, "log", *words], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (4, "")
        assert re.fullmatch(r"millstream: .*\n", done.stderr)
    assert not Path("copy.db").exists()
    assert not Path("log.jsonl").exists()


def test_the_tables_of_a_log_can_be_read_after_an_import_by_any_program(log: Path, millstream: Millstream) -> None:
    Path("log.jsonl").write_text(millstream("log", "export", "log.db").out, "utf-8")
    assert millstream("log", "import", "log.jsonl", "new.db").code == 0
    db = sqlite3.connect("new.db")
    rows = db.execute("SELECT position, key FROM events ORDER BY position").fetchall()
    db.close()
    assert rows == [(1, "ann"), (2, "bob"), (3, "ann"), (4, "Zoë"), (5, "Zoë"), (6, "Zoë"), (7, "bob")]

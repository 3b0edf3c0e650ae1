"""A user's own application: its commands, what is refused, what a run says, and how it is called."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import pytest

from examples.bank import Deposit, Open
from examples.bank import app as bank
from millstream.bench import __main__ as command_line
from millstream.bench import loops
from millstream.bench.job import Result
from millstream.bench.measure import LATENCY
from millstream.bench.summary import Report
from millstream.bench.user_app import command
from millstream.bench.user_app.run import SetupRefused, run
from millstream.bench.user_app.work import NoCommands, OwnJob, commands_in

pytestmark = pytest.mark.anyio

OPENS = [{"type": "Open", "account": name} for name in ("ann", "bob")]
WORK = [
    {"type": "Deposit", "account": "ann", "amount": 10},
    {"type": "Transfer", "account": "ann", "to": "bob", "amount": 5},
    {"type": "Deposit", "account": "eve", "amount": 1},
    {"type": "Transfer", "account": "bob", "to": "ann", "amount": 1_000},
] * 10


def written(path: Path, commands: Sequence[Mapping[str, object]]) -> str:
    path.write_text("".join(f"{json.dumps(each)}\n" for each in commands) + "\n")
    return str(path)


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    return written(tmp_path / "setup.jsonl", OPENS), written(tmp_path / "work.jsonl", WORK)


def job(files: tuple[str, str], directory: Path, **changes: object) -> OwnJob:
    setup, commands = files
    directory.mkdir()
    plain = OwnJob(
        app="examples.bank:app", setup=setup, commands=commands, directory=str(directory), callers=3, warmup=4
    )
    return msgspec.structs.replace(plain, **changes)


def test_a_file_holds_a_command_a_line(files: tuple[str, str]) -> None:
    assert commands_in(bank, files[0]) == [Open("ann"), Open("bob")]
    assert commands_in(bank, files[1])[0] == Deposit("ann", 10)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (
            b'{"type":"Open","account":"ann"}\n\n{"type":"Close"}\n',
            "line 3 is no command of 'bank': Invalid value 'Close'",
        ),
        (b'{"type":"Deposit","account":"ann","amount":-1}', "line 1 is no command of 'bank': Expected `int` >= 1"),
        (b"\xff\n", "line 1 is no command of 'bank': "),
    ],
)
def test_a_line_that_is_no_command_is_named(content: bytes, problem: str, tmp_path: Path) -> None:
    (tmp_path / "work.jsonl").write_bytes(content)
    with pytest.raises(NoCommands) as caught:
        commands_in(bank, str(tmp_path / "work.jsonl"))
    assert str(caught.value).startswith(f"{tmp_path / 'work.jsonl'}: {problem}")


async def test_a_run_counts_what_was_accepted_and_what_was_refused_and_why(
    files: tuple[str, str], tmp_path: Path
) -> None:
    found = await run(job(files, tmp_path / "log"))
    details = found.details
    assert {name: value for name, value in details.items() if name.startswith("refused")} == {
        "refused: insufficient_funds": 9.0,
        "refused: no_such_account": 9.0,
    }
    assert (details["accepted"], details["events"]) == (18.0, 27.0)
    assert found.value > 0
    assert details["replay events/s"] > 0
    assert details["bytes/event on disk"] > 100
    assert [share for share, _ in found.series[LATENCY]] == [0.1, 0.25, 0.5, 0.75, 0.9, 0.95]


async def test_the_same_commands_are_the_same_events_whoever_sends_them(files: tuple[str, str], tmp_path: Path) -> None:
    states = {
        (await run(job(files, tmp_path / "one", callers=1))).state,
        (await run(job(files, tmp_path / "many", callers=20))).state,
        (await run(job(files, tmp_path / "scheduled", rate=100_000.0))).state,
    }
    assert len(states) == 1
    other = written(tmp_path / "other.jsonl", WORK[:-4])
    assert (await run(job((files[0], other), tmp_path / "other"))).state not in states


async def test_a_setup_that_is_refused_is_an_error(files: tuple[str, str], tmp_path: Path) -> None:
    twice = written(tmp_path / "twice.jsonl", [*OPENS, OPENS[0]])
    with pytest.raises(SetupRefused) as caught:
        await run(job((twice, files[1]), tmp_path / "log"))
    assert str(caught.value).startswith("command 3 of those that prepare the application failed: ")
    assert "'ann' is open already" in str(caught.value)


# The command line.


def test_the_whole_program_runs_and_writes_its_report(
    files: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    setup, commands = files
    report, page = tmp_path / "report.json", tmp_path / "page.html"
    arguments = ["examples.bank:app", "--setup", setup, "--commands", commands, "--runs", "1", "--loop", "asyncio"]
    arguments += ["--dir", str(tmp_path / "out"), "--json", str(report), "--html", str(page)]
    assert command_line.main(arguments) == 0
    shown = capsys.readouterr().out
    assert "examples.bank:app: 36 commands of work.jsonl; 100 callers, each awaiting its receipt" in shown
    assert "refused: insufficient_funds" in shown
    found = msgspec.json.decode(report.read_bytes(), type=Report)
    (figure,) = found.figures
    assert (figure.name, figure.unit) == ("examples.bank:app", "commands/s")
    assert [(row.label, row.loop, row.is_limit) for row in figure.rows] == [
        ("examples.bank:app", "asyncio", False),
        ("fdatasync", None, True),
    ]
    assert list(figure.rows[0].ratios) == ["fdatasync"]
    assert "refused: insufficient_funds" in page.read_text("utf-8")
    assert list((tmp_path / "out").iterdir()) == []


def test_each_run_has_its_turn_and_an_application_that_leaves_things_to_chance_is_found(
    files: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[str | None] = []

    def worker(module: str, name: str, job: bytes) -> Result:
        assert (module, name) == ("millstream.bench.user_app.worker", "examples.bank:app")
        seen.append(msgspec.json.decode(job, type=OwnJob).loop)
        return Result(value=5, state=str(len(seen)))

    def disk(_: object) -> Result:
        seen.append(None)
        return Result(value=1)

    monkeypatch.setattr(command, "run_worker", worker)
    monkeypatch.setattr(command, "run_apart", disk)
    arguments = ["run", "examples.bank:app", "--commands", files[1], "--runs", "2", "--dir", str(tmp_path / "out")]
    assert command_line.main(arguments) == 0
    assert seen == [*loops.available(), None] * 2
    assert "The runs did not end with the same events" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("app", "commands", "problem"),
    [
        ("examples.no_such:app", "work.jsonl", "there is no module 'examples.no_such'"),
        ("examples.bank:app", "no-such.jsonl", "no-such.jsonl: it can't be read: No such file or directory"),
        ("examples.bank:app", "empty.jsonl", "empty.jsonl: 0 commands, and 0 of them to warm up: none is left"),
    ],
)
def test_what_can_not_begin_says_why(
    app: str,
    commands: str,
    problem: str,
    files: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.jsonl").touch()
    assert command_line.main(["run", app, "--commands", commands]) == 2
    assert capsys.readouterr().err.startswith(problem)
    assert not Path("out").exists()


def test_a_run_that_fails_says_why(
    files: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    twice = written(tmp_path / "twice.jsonl", [*OPENS, OPENS[0]])
    arguments = ["examples.bank:app", "--setup", twice, "--commands", files[1], "--runs", "1", "--loop", "asyncio"]
    assert command_line.main([*arguments, "--dir", str(tmp_path / "out")]) == 1
    assert "command 3 of those that prepare the application failed" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--callers", "0"], ["--rate", "-1"], ["--rate", "fast"], ["--loop", "trio"]])
def test_a_wrong_option_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command_line.main(["examples.bank:app", "--commands", "work.jsonl", *arguments])
    assert caught.value.code == 2
    assert arguments[0] in capsys.readouterr().err

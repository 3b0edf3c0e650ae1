from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import anyio
import pytest
import typer.main

from millstream.engine import (
    AuthorError,
    CallerError,
    CommandIdReused,
    CommitFailed,
    ConnectionLost,
    EngineClosed,
    HandlerFailed,
    InvalidMessage,
    LogCorrupt,
    LogLocked,
    LogRefused,
    MillstreamError,
    NotAuthenticated,
    NotPermitted,
    Rejected,
    RemoteError,
    StorageError,
    VersionConflict,
)
from millstream.engine.cli import log, main
from millstream.engine.cli.exits import MEANINGS, ExitCode, exit_code_of
from millstream.engine.cli.root import app
from millstream.engine.commits.marks import EXPORT_MARK
from millstream.engine.upkeep import BackupFailed, DigestMissing
from tests.engine.upkeep.chains import deposit, in_file, sealed

ROOT = Path(__file__).parents[3]
PROGRAM = [sys.executable, "-m", "millstream.engine.cli"]


def run(*arguments: str, code: int = 0, **options: Any) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True, check=False, **options)
    assert done.returncode == code, done.stderr
    return done


def test_the_program_runs_and_says_its_version() -> None:
    assert run("--version").stdout == f"millstream {version('millstream')}\n"


def test_the_script_of_the_package_is_this_program() -> None:
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    assert 'millstream = "millstream.program:main"' in text


@pytest.mark.parametrize("module", ["millstream.engine", "millstream.engine.write.kernel", "millstream.engine.cli.log"])
@pytest.mark.skipif(sys.platform == "win32", reason="an interrupt can't be sent there")
def test_an_interrupt_while_it_starts_is_an_exit_code_and_no_traceback(module: str) -> None:
    program = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # where it was started to ignore it
        "class Interrupting:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {module!r}:\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupting())\n"
        "from millstream.program import main\n"
        "sys.exit(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", program, "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_a_wrong_argument_is_exit_code_2_and_no_argument_shows_the_help(tmp_path: Path) -> None:
    assert "No such command 'nonsense'" in run("log", "nonsense", code=2).stderr
    assert "verify" in run("log", "--help").stdout


def test_an_error_is_one_line_and_no_traceback(tmp_path: Path) -> None:
    done = run("log", "verify", "nothing.db", code=3, cwd=tmp_path)
    assert done.stdout == ""
    assert re.fullmatch(r"millstream: log nothing\.db is refused: it is not there.*\n", done.stderr)


@pytest.mark.skipif(sys.platform == "win32", reason="no pipe there breaks this way")
@pytest.mark.parametrize(
    ("unbuffered", "words"), [("", ["export", "big.db"]), ("1", ["show", "big.db", "--limit", "1000"])]
)
def test_a_reader_that_goes_away_has_an_exit_code_and_no_traceback(
    tmp_path: Path, unbuffered: str, words: list[str]
) -> None:
    anyio.run(in_file, tmp_path / "big.db", sealed([deposit("ann", *range(5_000))]))
    with subprocess.Popen(
        [*PROGRAM, "log", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.readline()
        child.stdout.close()
        assert (child.stderr.read(), child.wait()) == (b"", 141)


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_the_extra_the_program_says_which_one_to_install(
    missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    assert main(["--version"]) == 2
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == (
        "",
        f"millstream: the command line needs {missing}: install the extra millstream[cli]\n",
    )


def test_the_first_room_needs_nothing_of_the_extra() -> None:
    program = (
        "import sys\n"
        "import millstream.engine.cli\n"
        "print('typer' in sys.modules, 'millstream.engine.cli.output' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"


def test_a_bug_is_a_traceback_and_an_exit_code_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(log, "show_verified", None)
    monkeypatch.setattr(log, "_run", lambda *_: None)
    assert main(["log", "verify", "x.db", "--json"]) == 70
    assert "TypeError: 'NoneType' object is not callable" in capsys.readouterr().err


def test_an_interrupt_is_an_exit_code_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(log, "_run", interrupted)
    assert main(["log", "verify", "x.db"]) == 130
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals there")
def test_an_import_that_waits_for_input_can_be_interrupted(tmp_path: Path) -> None:
    with subprocess.Popen(
        [*PROGRAM, "log", "import", "-", "new.db"], cwd=tmp_path, stdin=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stdin is not None
        assert child.stderr is not None
        child.stdin.write(b'{"%s":"log","format":1,"application":"bank"}\n' % EXPORT_MARK.encode())
        child.stdin.flush()
        while not (tmp_path / "new.db").exists():
            with suppress(subprocess.TimeoutExpired):
                child.wait(0.05)
                pytest.fail(f"it ended: {child.stderr.read()!r}")
        child.send_signal(signal.SIGINT)
        assert (child.stderr.read(), child.wait()) == (b"", -signal.SIGINT)


# Exit codes.


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (LogCorrupt("x", 1, "y"), 1),
        (DigestMissing("x", 1, b"y"), 1),
        (InvalidMessage("x", "y"), 2),
        (LogRefused("x", "y", "z"), 3),
        (LogLocked("x"), 3),
        (BackupFailed("x", "y", "z"), 4),
        (CommitFailed(1, "x"), 4),
        (OSError("x"), 4),
        (sqlite3.OperationalError("x"), 4),
        (HandlerFailed("x", "y", "z"), 5),
        (RemoteError(1, "x"), 5),
        (Rejected("x"), 6),
        (VersionConflict("x", 1, 2), 6),
        (CommandIdReused("x", "y", 1), 6),
        (NotAuthenticated("x"), 6),
        (NotPermitted("x", "y"), 6),
        (ConnectionLost("x", "y", sent=False), 7),
        (EngineClosed("x"), 7),
        (KeyboardInterrupt(), 130),
        (BrokenPipeError(), 141),
        (ValueError(), None),
    ],
)
def test_each_error_has_its_exit_code(error: BaseException, code: int | None) -> None:
    assert exit_code_of(error) == code


def test_each_branch_of_the_tree_of_errors_has_an_exit_code() -> None:
    branches = MillstreamError.__subclasses__()
    assert {CallerError, StorageError, AuthorError} <= set(branches)
    assert all(exit_code_of(branch.__new__(branch)) is not None for branch in branches)


def test_the_help_and_the_documentation_list_every_exit_code() -> None:
    assert list(MEANINGS) == list(ExitCode)
    text = (ROOT / "docs/reference/command-line.md").read_text("utf-8")
    rows = re.findall(r"^\| (\d+) \| ([^|]+) \|$", text, re.MULTILINE)
    assert [(int(code), meaning) for code, meaning in rows] == [(int(code), text) for code, text in MEANINGS.items()]
    shown = run("--help").stdout
    assert [int(code) for code in re.findall(r"^ +(\d+)  ", shown, re.MULTILINE)] == [int(code) for code in ExitCode]


def commands(group: Any) -> list[Any]:
    return [
        found for each in group.commands.values() for found in (commands(each) if hasattr(each, "commands") else [each])
    ]


def test_every_command_and_every_option_explains_itself_and_every_command_speaks_json() -> None:
    found = commands(typer.main.get_command(app))
    assert {command.name for command in found} >= {
        "verify",
        "backup",
        "export",
        "import",
        "show",
        "check",
        "tail",
        "serve",
        "execute",
        "ask",
    }
    for command in found:
        assert command.help, command.name
        assert [each.name for each in command.params if not each.help] == [], command.name
        if command.name not in ("serve", "replica", "bench"):
            assert "--json" in {option for each in command.params for option in each.opts}, command.name


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (("serve",), "[default: (NAME.db, by the application's name)]"),
        (("serve",), "[default: (tcp://127.0.0.1:7411)]"),
        (("replica",), "[default: (NAME.db, by the application's name)]"),
        (("log", "tail"), "[default: (ten events before the end)]"),
        (("ask",), "[default: tcp://127.0.0.1:7411]"),
    ],
)
def test_what_holds_where_nothing_is_said_is_in_the_help(
    command: tuple[str, ...], shown: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main([*command, "--help"]) == 0
    assert shown in " ".join(capsys.readouterr().out.split())

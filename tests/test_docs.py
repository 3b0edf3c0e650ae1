"""The documentation is held to the code: its programs run, its output is what they print, and what it names exists.

Per page: all ```python blocks run in order, in one module and one empty directory, with ``await`` allowed at the top
level; a ```text block is what the blocks since the last one printed; a ```console block is SQL on a file that the page
made, or a command. Where output is shown it is compared: ``millstream serve`` is started and goes on until the page's end, and
what the page then says to it, with ``millstream`` or with ``nc``, is said to it. A ```python block that begins with the name of a file,
``# shop/app.py``, is that file, as a reader would write it; ``python FILE`` and ``pytest FILE`` run such files.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import os
import pkgutil
import re
import shlex
import socket
import sqlite3
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import msgspec
import pytest
import typer

import millstream.engine
import millstream.engine.cli.root
import millstream.engine.client
import millstream.engine.edge
import millstream.engine.observers
import millstream.engine.server
import millstream.engine.telemetry
import millstream.engine.testing
import millstream.engine.upkeep
import millstream.handlers
import millstream.views
from examples.bank import app as bank
from millstream.bench.__main__ import options as bench_options
from millstream.bench.pairs.command import options as compare_options
from millstream.bench.quick.command import options as quick_options
from millstream.engine import Engine, Limits, MillstreamError, SqliteLog, errors
from millstream.engine.application.effects import Terms
from millstream.engine.client import ClientLimits
from millstream.engine.observers.log_lines import LEVELS
from millstream.engine.server import ServerLimits
from millstream.engine.stores.capabilities import Launching
from millstream.engine.stores.port import Log
from millstream.engine.stores.postgres.settings import Settings
from millstream.engine.stores.snapshot_port import SnapshotStore
from millstream.engine.telemetry.names import METRICS
from millstream.engine.testing import errors as testing_errors
from millstream.engine.web import WebLimits
from millstream.engine.web.app import ADDRESSES
from millstream.engine.web.headers import ANSWER_HEADERS, HEADERS
from millstream.engine.web.problems import STATUSES
from millstream.engine.wire.errors import CODES
from millstream.engine.wire.requests import params_of
from millstream.views import TableView, Timeline

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    path for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")) if not path.is_relative_to(ROOT / "docs/figures")
)
CODE = ("engine", "handlers", "program", "views", "bench", "examples", "tests")
#: What programs leave behind; in no checkout.
MADE_AT_RUN_TIME = re.compile(r"out/.*|bank\.db(-wal|-shm|-lock|-leader|-snapshots(-lock)?)?")
#: Plugins of pytest that are here for our own tests: to start them takes as long as pytest itself.
NOT_THE_READERS = "-p no:hypothesispytest -p no:xdist"
UNITS = ("_max", "_ms", "_seconds")

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


class Block(NamedTuple):
    """A fenced block: its language, its content, and the line where the content starts."""

    language: str
    content: str
    line: int


def blocks_of(page: Path) -> Iterator[Block]:
    text = page.read_text("utf-8")
    for found in re.finditer(r"^```([\w{}-]*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield Block(found[1], found[2], text.count("\n", 0, found.start(2)) + 1)


@cache
def mentioned(page: Path) -> tuple[str, ...]:
    """What stands in `backquotes` outside of blocks."""
    prose = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    return tuple(found[1] for found in re.finditer(r"`([^`]+)`", prose))


@cache
def words_of_the_code() -> frozenset[str]:
    files = [*(path for folder in CODE for path in (ROOT / folder).rglob("*.py")), ROOT / "pyproject.toml"]
    return frozenset(word for path in files if path != Path(__file__) for word in words(path.read_text("utf-8")))


def words(text: str) -> list[str]:
    return re.findall(r"[A-Za-z_]\w*", text)


def is_path(text: str) -> bool:
    if not re.fullmatch(r"\.?[\w.-]+(/[\w.-]*)*", text):
        return False
    return "/" in text or re.search(r"\.(py|md|toml|db)\b", text) is not None


# Programs and what they print.


def file_of(block: Block) -> str | None:
    """The name of the file that a block is, which its first line says."""
    found = re.match(r"# ([\w./]+\.py)\n", block.content)
    return found[1] if found else None


def write(block: Block, folder: Path) -> Path:
    file = folder / str(file_of(block))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(block.content, "utf-8")
    return file


def program_output(command: str) -> str:
    """What a program prints that the page has written, or pytest of its tests; without log lines, and without seconds."""
    done = subprocess.run(
        [sys.executable, *([] if command.startswith("python ") else ["-m", "pytest", "-q"]), *shlex.split(command)[1:]],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "PYTEST_ADDOPTS": NOT_THE_READERS},
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return "".join(f"{line}\n" for line in done.stdout.splitlines() if not re.search(r"\[(info|warning) ", line))


def without_seconds(text: str) -> str:
    return re.sub(r"(passed in )[\d.]+s", r"\1", text)


def run(block: Block, page: Path, module: ModuleType) -> None:
    """Execute a block in the module; its tracebacks name the page's own lines."""
    code = compile(
        "\n" * (block.line - 1) + block.content, page, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True
    )
    if code.co_flags & inspect.CO_COROUTINE:
        asyncio.run(eval(code, vars(module)))
    else:
        exec(code, vars(module))


def sql_output(command: str) -> str:
    """What ``sqlite3 FILE "SQL"`` prints, from Python's own SQLite: not every machine has the program."""
    _, file, query = shlex.split(command)
    assert Path(file).is_file(), f"no block before made {file}"
    db = sqlite3.connect(file)
    try:
        rows = db.execute(query).fetchall()
    finally:
        db.close()
    return "".join("|".join("" if value is None else str(value) for value in row) + "\n" for row in rows)


class Served:
    """What a page serves with ``millstream serve``, and what it says to it. The address is one of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "served.sock"
        self.environment = {
            **os.environ,
            "MILLSTREAM_ADDRESS": f"unix://{self.socket}",
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "200",
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, arguments: list[str]) -> None:
        command = [sys.executable, "-m", "millstream.engine.cli", *arguments]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, env=self.environment)
        assert self.process.stderr is not None
        lines: list[bytes] = []
        for line in self.process.stderr:
            lines.append(line)
            if b"server_listening" in line:
                return
        pytest.fail(b"".join(lines).decode())

    def output_of(self, command: str) -> str:
        """What a command prints, ``millstream …`` or ``… | nc …``."""
        if " | nc " in command:
            sent = subprocess.run(command.partition(" | nc ")[0], shell=True, capture_output=True, check=True).stdout
            return self.said(sent)
        program = shlex.split(command)[1:]
        done = subprocess.run(
            [sys.executable, "-m", "millstream.engine.cli", *program],
            capture_output=True,
            env=self.environment,
            check=False,
        )
        return (done.stdout + done.stderr).decode()

    def measure(self, command: str) -> None:
        """Run ``millstream bench APP …``, once: how often it is measured, and on how many loops, changes nothing that a
        page says.
        """
        program = [sys.executable, "-m", "millstream.bench", *shlex.split(command)[2:], "--runs", "1"]
        program += ["--loop", "asyncio"]
        done = subprocess.run(program, capture_output=True, env=self.environment, check=False)
        assert done.returncode == 0, done.stderr.decode()

    def said(self, lines: bytes) -> str:
        """What ``nc -N`` prints: not every machine has the program."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(str(self.socket))
            connection.sendall(lines)
            connection.shutdown(socket.SHUT_WR)
            return connection.makefile("rb").read().decode()

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            _, errors = self.process.communicate(timeout=30)
            assert self.process.returncode == 0, errors.decode()


def check_console(block: Block, page: Path, served: Served) -> None:
    for entry in re.split(r"^\$ ", block.content, flags=re.MULTILINE)[1:]:
        command, _, shown = entry.partition("\n")
        where = f"{page.name}, line {block.line}: {command}"
        if command.startswith("sqlite3 "):
            assert sql_output(command) == shown, where
        elif re.match(r"(python|pytest) [\w/]+\.py\n?$", command):
            assert without_seconds(program_output(command)) == without_seconds(shown), where
        elif command.startswith("millstream bench ") and "--commands" in command:
            assert not shown, f"{page.name}: what {command!r} measures differs each time, so it is not shown"
            served.measure(command)
        elif command.startswith(("millstream agenda list ", "millstream describe examples.")):
            assert re.sub(r" +$", "", served.output_of(command), flags=re.MULTILINE) == shown, where
        elif served.process is not None and not command.startswith("millstream serve "):
            assert served.output_of(command) == shown, where
        else:
            assert not shown, f"{page.name}: output of {command!r} is not checked, so it is not shown"
            check_command(command)
            if command.startswith("millstream serve ") and "--listen" not in command:
                served.start(shlex.split(command)[1:])


def check_command(command: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    match shlex.split(command):
        case ["make", target, *_]:
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE), command
        case ["export", setting]:
            assert f'envvar="{setting.partition("=")[0]}"' in "".join(
                path.read_text("utf-8") for path in (ROOT / "engine/cli").glob("*.py")
            ), command
        case ["mkdir" | "cd", _] | ["python", "-m", "venv", _] | [".", ".venv/bin/activate"]:
            pass
        case ["pip", "install", requirement, *others]:
            assert set(others) <= {"pytest"}, command
            name, _, extra = requirement.removesuffix(" @ git+URL").rstrip("]").partition("[")
            name = "." if requirement.endswith(" @ git+URL") and name == "millstream" else name
            assert name == ".", f"{command}: until it is published, it is installed from a checkout"
            assert set(filter(None, extra.split(","))) <= set(project["optional-dependencies"]), command
        case ["python", "-m", "pytest"] | ["curl", *_]:
            pass  # `tests/test_deploying.py` runs them
        case ["python", "-m", program]:
            file = ROOT.joinpath(*program.removeprefix("millstream.").split("."))
            assert file.with_suffix(".py").is_file() or (file / "__main__.py").is_file(), command
        case ["millstream", "bench", "quick", *arguments]:
            quick_options(arguments)
        case ["millstream", "bench", "compare", *arguments]:
            compare_options(arguments)
        case ["millstream", "bench", *arguments]:
            bench_options(arguments)
        case ["millstream", *arguments]:
            check_millstream(command, arguments)
        case _:
            pytest.fail(f"nothing here knows how to check {command!r}")


def check_millstream(command: str, arguments: list[str]) -> None:
    """That there is such a command of ours, and that it has these options."""
    found: Any = typer.main.get_command(millstream.engine.cli.root.app)
    while arguments and hasattr(found, "commands"):
        assert arguments[0] in found.commands, command
        found = found.commands[arguments.pop(0)]
    options = {option for parameter in found.params for option in parameter.opts}
    assert {each for each in arguments if each.startswith("--")} <= options, command


@every_page
def test_every_program_of_a_page_runs_and_prints_what_the_page_says(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = ModuleType(f"page_{page.stem}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.chdir(tmp_path)
    served = Served(tmp_path)
    try:
        for block in blocks_of(page):
            match block.language:
                case "python" if file_of(block):
                    write(block, tmp_path)
                case "python":
                    run(block, page, module)
                case "text":
                    assert capsys.readouterr().out == block.content, f"{page.name}, line {block.line}"
                case "console":
                    check_console(block, page, served)
                case "json" | "" | "{eval-rst}" | "{toctree}":  # of the latter two `make docs` sees to it
                    pass
                case other:
                    pytest.fail(f"{page.name}, line {block.line}: nothing here checks a block of {other!r}")
    finally:
        served.stop()


def test_the_bad_days_of_the_tutorial_find_the_rule_that_it_breaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = list(blocks_of(ROOT / "docs/tutorial/ticket-shop.md"))
    for block in blocks:
        if block.language == "python":
            write(block, tmp_path)
    (broken,) = (block.content for block in blocks if not block.language)
    orders = tmp_path / "shop/orders.py"
    careless, then = broken.splitlines(keepends=True)
    text, found = re.subn(rf"^ +if .*\n(?={re.escape(then)})", careless, orders.read_text("utf-8"), flags=re.MULTILINE)
    assert found == 1
    orders.write_text(text, "utf-8")
    with pytest.raises(AssertionError, match="simulated with seed="):
        program_output("pytest test_bad_days.py")


def test_the_readme_is_a_page_with_one_example_and_the_price() -> None:
    readme = ROOT / "README.md"
    languages = [block.language for block in blocks_of(readme)]
    assert languages.count("python") == 1
    assert readme.read_text("utf-8").count("\n") <= 170
    assert "LogLocked" in mentioned(readme)


# What the pages name.


@every_page
def test_every_file_and_folder_that_a_page_names_is_there(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text("utf-8"))
    paths = [page.parent / link for link in links if not link.startswith("http")]
    written = {file_of(block) for block in blocks_of(page)}
    paths += [
        ROOT / text
        for text in mentioned(page)
        if is_path(text) and text not in written and not MADE_AT_RUN_TIME.fullmatch(text)
    ]
    assert [str(path) for path in paths if not path.exists()] == []


@every_page
def test_every_name_that_a_page_gives_as_code_is_in_the_code(page: Path) -> None:
    """A name is a word with an underscore or with capitals inside: what is renamed in the code is found here."""
    here = {word for block in blocks_of(page) for word in words(block.content)}
    known = words_of_the_code() | here | set(dir(asyncio)) | set(words((ROOT / "Makefile").read_text("utf-8")))
    names = {
        word
        for text in mentioned(page)
        if not is_path(text)
        for word in words(text)
        if "_" in word.strip("_") or re.fullmatch(r"[A-Z]+[a-z]+\w*", word)
    }
    assert sorted(names - known) == []


@every_page
def test_every_test_that_a_page_names_is_there(page: Path) -> None:
    sources = "".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("*.py"))
    named = {text for text in mentioned(page) if re.fullmatch(r"test_\w+", text)}
    assert sorted(name for name in named if f"def {name}(" not in sources) == []


@every_page
def test_every_limit_that_a_page_names_is_one(page: Path) -> None:
    named = {text for text in mentioned(page) if re.fullmatch(r"[a-z_]+", text) and text.endswith(UNITS)}
    limits = {name for cls in (Limits, ServerLimits, ClientLimits, WebLimits) for name in cls.__struct_fields__}
    limits |= {
        *inspect.signature(SqliteLog).parameters,
        *inspect.signature(Engine).parameters,
        *Terms._fields,
        *Settings._fields,
        *Timeline.__annotations__,
        *vars(TableView),
        *METRICS,
    }
    fields = {name for error in all_errors() for name in inspect.signature(error.__init__).parameters}
    assert sorted(named - limits - fields) == []


@every_page
def test_every_make_target_that_a_page_names_is_one(page: Path) -> None:
    for text in mentioned(page):
        if text.startswith("make "):
            check_command(text)


def all_errors() -> list[type[MillstreamError]]:
    return [getattr(millstream.engine, name) for name in CODES]


def test_the_protocols_table_of_errors_has_each_with_its_code_and_values() -> None:
    text = (ROOT / "docs/reference/protocol.md").read_text("utf-8")
    shown = {
        name: (int(code), re.findall(r"`(\w+)`", values))
        for code, name, values in re.findall(r"^\| (\d+) \| `(\w+)` \| ([^|]+) \|$", text, re.MULTILINE)
    }
    values = {error.__name__: list(inspect.signature(error.__init__).parameters)[1:] for error in all_errors()}
    assert shown == {name: (code, values[name]) for name, code in CODES.items()}


def test_the_protocols_table_of_methods_has_each_with_its_params() -> None:
    text = (ROOT / "docs/reference/protocol.md").read_text("utf-8")
    rows = re.findall(r"^\| (`[^|]+`) \|([^|]*)\| [^|]+ \|$", text, re.MULTILINE)
    shown = {
        name: re.findall(r"`(\w+)(\??)`", params) for names, params in rows for name in re.findall(r"`([\w.]+)`", names)
    }
    assert shown == {
        name: sorted(
            ((field.name, "" if field.required else "?") for field in msgspec.structs.fields(params)),
            key=lambda each: each[1],
        )
        for name, params in params_of(bank).items()
    }


def table_below(heading: str) -> list[tuple[str, str, str]]:
    """The rows of the table of three columns below a heading of docs/reference/http.md."""
    text = (ROOT / "docs/reference/http.md").read_text("utf-8").partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"^\| `([^`]+)` \| ?([^|]*?) \| ?([^|]*?) ?\|$", text, re.MULTILINE)


def test_the_table_of_statuses_has_each_error_with_what_it_is_answered() -> None:
    shown = [(name, int(status), int(retry) if retry else None) for name, status, retry in table_below("Errors")]
    assert shown == [(name, *status) for name, status in STATUSES.items()]


def test_the_tables_of_headers_have_each_with_what_it_is_for() -> None:
    for heading, known in (("Headers of a request", HEADERS), ("Headers of an answer", ANSWER_HEADERS)):
        assert table_below(heading) == [(each.name, ", ".join(each.used_in), each.says) for each in known]


def test_the_table_of_metrics_has_each_with_its_kind_labels_and_meaning() -> None:
    text = (ROOT / "docs/reference/metrics.md").read_text("utf-8")
    shown = re.findall(r"^\| `([^`]+)` \| (\w+) \| ?([^|]*?) ?\| ([^|]*?) \|$", text, re.MULTILINE)
    assert shown == [(name, each.kind, ", ".join(each.labels), each.says) for name, each in METRICS.items()]


def test_the_table_of_addresses_has_each_with_its_methods() -> None:
    assert [(path, methods) for path, methods, _ in table_below("Addresses")] == [
        (path, ", ".join(methods)) for path, methods in ADDRESSES.items()
    ]


def errors_of_a_user() -> set[type[BaseException]]:
    """Those that millstream raises on purpose, and those of its simulated world."""
    for module in pkgutil.walk_packages(millstream.engine.__path__, "millstream.engine."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    found: set[type[BaseException]] = {getattr(testing_errors, name) for name in testing_errors.__all__}
    left = [MillstreamError]
    while left:
        left += (subclasses := left.pop().__subclasses__())
        found |= {each for each in subclasses if each.__module__.startswith("millstream.engine.")}
    return found


def test_the_table_of_errors_has_each_under_its_base_with_cause_and_action() -> None:
    text = (ROOT / "docs/reference/errors.md").read_text("utf-8")
    sections = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    shown = {
        name: re.match(r"`(\w+)`|In tests", section)
        for section in sections
        for name in re.findall(r"^\| `(\w+)` \| [^|]+ \| [^|]+ \|$", section, re.MULTILINE)
    }
    bases = {MillstreamError, *MillstreamError.__subclasses__()} - {errors.RemoteError}
    assert sorted(shown) == sorted(error.__name__ for error in errors_of_a_user() - bases)
    for error in errors_of_a_user() - bases:
        heading = shown[error.__name__]
        assert heading
        assert (heading[1] or None) in {None, *(base.__name__ for base in error.__mro__)}
        assert (heading[1] is None) == (error.__module__ == testing_errors.__name__)


def test_the_guarantees_have_test_files_and_the_readme_has_each_in_a_line() -> None:
    text = (ROOT / "docs/explanation/guarantees.md").read_text("utf-8")
    rows = re.findall(r"^\| (\d+) \| [^|]+ \| ([^|]+) \|$", text, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 11))
    assert all(re.search(r"`tests/[\w/]+\.py`", where) for _, where in rows)
    lines = (ROOT / "README.md").read_text("utf-8").partition("## Guarantees\n")[2].partition("\n## ")[0]
    assert re.findall(r"^(\d+)\. ", lines, re.MULTILINE) == [str(number) for number in range(1, 11)]


@pytest.mark.parametrize(
    ("page", "heading", "limits"),
    [
        ("docs/reference/limits.md", "## Limits of the engine\n", Limits()),
        ("docs/reference/limits.md", "## Limits of the server\n", ServerLimits()),
        ("docs/reference/limits.md", "## Limits of the client\n", ClientLimits()),
        ("docs/reference/limits.md", "## Limits of HTTP\n", WebLimits()),
    ],
)
def test_a_table_of_limits_has_each_with_its_default(page: str, heading: str, limits: msgspec.Struct) -> None:
    text = (ROOT / page).read_text("utf-8").partition(heading)[2].partition("\n## ")[0]
    shown = {
        name: ast.literal_eval(value) for name, value in re.findall(r"^\| `(\w+)` \| ([\d_.]+) \|", text, re.MULTILINE)
    }
    assert shown == msgspec.structs.asdict(limits)


def test_the_table_of_terms_has_each_with_its_default() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| ([^|]+) \| [^|]+ \|$", (ROOT / "docs/how-to/outside.md").read_text("utf-8"), re.MULTILINE
    )
    assert {name: ast.literal_eval(value) for name, value in rows} == Terms()._asdict()


def commands_of(group: Any, before: str = "") -> Iterator[str]:
    for name, each in group.commands.items():
        yield from commands_of(each, f"{before}{name} ") if hasattr(each, "commands") else [f"{before}{name}"]


def test_the_table_of_commands_has_each() -> None:
    text = (ROOT / "docs/reference/command-line.md").read_text("utf-8")
    shown = re.findall(r"^\| `([a-z -]+)` \| [^|]+ \|$", text, re.MULTILINE)
    assert sorted(shown) == sorted(commands_of(typer.main.get_command(millstream.engine.cli.root.app)))


def test_the_table_of_log_lines_has_each_with_its_level() -> None:
    text = (ROOT / "docs/reference/log-lines.md").read_text("utf-8")
    shown = re.findall(r"^\| `(\w+)` \| (info|warning|error|critical) \|", text, re.MULTILINE)
    assert sorted(shown) == sorted(LEVELS.items())


def test_each_line_that_is_no_info_says_what_to_do() -> None:
    text = (ROOT / "docs/reference/log-lines.md").read_text("utf-8").partition("## What to do\n")[2]
    shown = [
        name for cell in re.findall(r"^\| (`[^|]*`) \| [^|]+ \|$", text, re.MULTILINE) for name in mentioned_in(cell)
    ]
    assert sorted(shown) == sorted(name for name, level in LEVELS.items() if level != "info")


def mentioned_in(cell: str) -> list[str]:
    return re.findall(r"`(\w+)`", cell)


#: What users import: all of each face is in the reference. `Rejected` and `applies` have two doors.
FACES: tuple[ModuleType, ...] = (
    millstream.engine,
    millstream.handlers,
    millstream.views,
    millstream.engine.client,
    millstream.engine.edge,
    millstream.engine.observers,
    millstream.engine.server,
    millstream.engine.telemetry,
    millstream.engine.testing,
    millstream.engine.upkeep,
    millstream.engine.web,
)


def test_the_reference_has_everything_that_users_import_once() -> None:
    shown = [
        name
        for page in sorted((ROOT / "docs/reference/python").glob("*.md"))
        for name in re.findall(r"^\.\. auto\w+:: ([\w.]+)$", page.read_text("utf-8"), re.MULTILINE)
    ]
    found = [getattr(import_module(name.rpartition(".")[0]), name.rpartition(".")[2]) for name in shown]
    assert sorted({name for name in shown if shown.count(name) > 1}) == []
    there = {id(each) for each in found}
    assert [
        f"{face.__name__}.{name}" for face in FACES for name in face.__all__ if id(getattr(face, name)) not in there
    ] == []


#: Whose contract the methods of a store have.
PORTS = (Launching, Log, SnapshotStore)


def raised_in(function: Any) -> set[str]:
    """The classes of errors that a function raises by itself, by name; not what functions within it do."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    todo, found = list(ast.iter_child_nodes(tree)), set()
    while todo:
        node = todo.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            continue
        if isinstance(node, ast.Raise):
            error = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            if isinstance(error, ast.Name) and error.id[0].isupper():
                found.add(error.id)
        todo += ast.iter_child_nodes(node)
    return found - {"AssertionError", "StopAsyncIteration", "NotImplementedError"}


def contracts() -> Iterator[tuple[str, Any, str]]:
    """What users may call: its name, the function, and the docstrings that speak of it."""
    for face in FACES:
        for name in face.__all__:
            exported = getattr(face, name)
            if inspect.isfunction(exported):
                yield name, exported, exported.__doc__ or ""
            elif inspect.isclass(exported):
                of_class = exported.__doc__ or ""
                for method, found in inspect.getmembers(exported):
                    function = found.fget if isinstance(found, property) else found
                    if not inspect.isfunction(function) or not Path(function.__code__.co_filename).is_relative_to(ROOT):
                        continue  # it is made, by msgspec or typing
                    if method in ("__init__", "__post_init__", "__aenter__"):
                        yield f"{name}.{method}", function, of_class
                    elif not method.startswith("_"):
                        inherited = "".join(
                            getattr(getattr(port, method, None), "__doc__", None) or "" for port in PORTS
                        )
                        yield f"{name}.{method}", function, f"{function.__doc__}{inherited}"


def test_every_public_docstring_names_the_errors_that_are_raised_there() -> None:
    checked = {name: raised_in(each) - set(re.findall(r"\w+", said)) for name, each, said in contracts()}
    # What is not open is a defect of the caller's, and the port's "Exception".
    assert {name: errors for name, errors in checked.items() if errors - {"RuntimeError"}} == {}
    assert len(checked) > 150

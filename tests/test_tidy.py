"""Style as a test: what a reviewer would otherwise have to say again and again.

Every check is a function from one source file, or from the whole checkout, to a list of problems; each problem names the
file, the line and what to do instead. The checks are tried on small offenders too, so none can pass by looking away.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tokenize
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import pytest

ROOT = Path(__file__).resolve().parent.parent
#: Folders that may lie in a checkout and are not ours to look at; hidden ones and ``*.egg-info`` are passed over too.
ARTIFACTS = {"build", "dist", "out", "docs"}
NOT_SHIPPED = {"examples", "tests"}

MODULE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70

PURE = frozenset({"engine", "handlers", "views"})
SHIPPED = frozenset({*PURE, "program", "bench"})
OURS = frozenset({*SHIPPED, "examples", "tests"})

#: Of the dependency group ``peers``, as they are imported; each by its own module, which is loaded only to run it.
PEERS = {"dbos", "eventsource", "eventsourcing", "nats", "py_event_sourcing", "umadb"}

#: Who may import what of ours, by folder. The arrows: handlers → engine ← views; bench sees what is shipped.
MAY_IMPORT: Mapping[str, tuple[str, ...]] = {
    "engine": ("millstream.engine",),
    "handlers": ("millstream.engine", "millstream.handlers"),
    "views": ("millstream.engine", "millstream.views"),
    "program": ("millstream.engine", "millstream.program"),
    "bench": ("millstream.engine", "millstream.handlers", "millstream.views", "millstream.bench"),
    "examples": ("millstream.engine", "millstream.handlers", "millstream.views", "millstream.bench", "examples"),
    "tests": (
        "millstream.engine",
        "millstream.handlers",
        "millstream.program",
        "millstream.views",
        "millstream.bench",
        "examples",
        "tests",
    ),
}


#: The floors of the engine, from the ground up: a room stands on those below it, and never on one beside it.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors", "lifecycle", "stats"),
    ("health", "loop", "observers"),
    ("application", "limits"),
    ("commits", "gateway", "wire"),
    ("client", "snapshots"),
    ("stores",),
    ("read", "write"),
    ("outside", "recovery"),
    ("standby",),
    ("engine", "replica", "upkeep"),
    ("server", "testing"),
    ("edge", "web"),
    ("telemetry",),
    ("cli",),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
#: Rooms that need less than their floor allows, and are kept so.
STANDS_ON = {"client": {"application", "errors", "lifecycle", "loop", "observers", "stats", "wire"}}


DECLARATIONS = {
    *(f"millstream.engine.{base}" for base in ("Command", "Event", "Query")),
    "millstream.handlers.WriteModel",
    "millstream.views.View",
}


class Ban(NamedTuple):
    """A name that may not be used in some folders, except in some files, and what to use instead."""

    name: str
    rooms: frozenset[str]
    instead: str
    except_in: tuple[str, ...] = ()


CLOCK = ("engine/loop/clock.py",)
#: The loop stops for a moment, on purpose, so that a thread gets the interpreter's lock; it says why there.
#: A simulation lets that moment pass without sleeping.
RELEASING = ("engine/loop/threads.py", "engine/testing/loop.py")
#: All that is random there comes from a seed that the caller gives.
SIMULATION = tuple(f"engine/testing/{name}.py" for name in ("faulty", "loop", "simulation"))
#: It names the class of ids that a state may hold, and makes none.
LOOKS = ("engine/snapshots/exact.py",)
#: A client is a caller: it gives ids to commands, and waits before it connects again. Nothing is decided there.
CALLER = ("engine/client/randomness.py",)
TIME = "millstream.engine.loop.clock.utc_now, or the clock that was injected"
ELAPSED = "millstream.engine.loop.clock.elapsed, the one clock that measures"
WAITING = "tests.support.settled, an event, or anyio.lowlevel.checkpoint(): tests never wait for time to pass"
IN_THREAD = "millstream.engine.loop.threads.in_thread, which gets to work beside a busy loop"
CHANCE = "a value that the caller gives: what decides and applies gives the same at every replay"

BANS = (
    Ban("time.time", OURS, TIME, CLOCK),
    Ban("time.time_ns", OURS, TIME, CLOCK),
    Ban("datetime.datetime.now", SHIPPED, TIME, CLOCK),
    Ban("datetime.datetime.utcnow", OURS, TIME),
    Ban("datetime.datetime.today", OURS, TIME),
    Ban("datetime.date.today", OURS, TIME),
    Ban("time.perf_counter", PURE, ELAPSED, CLOCK),
    Ban("time.perf_counter_ns", PURE, ELAPSED, CLOCK),
    Ban("time.monotonic", PURE, ELAPSED, CLOCK),
    Ban("time.monotonic_ns", PURE, ELAPSED, CLOCK),
    Ban("time.sleep", frozenset({"tests"}), WAITING),
    Ban("time.sleep", SHIPPED, "anyio.sleep: it holds the loop, and every query with it", RELEASING),
    Ban("asyncio.sleep", frozenset({"tests"}), WAITING),
    Ban("anyio.sleep", frozenset({"tests"}), WAITING),
    Ban("anyio.sleep_until", frozenset({"tests"}), WAITING),
    Ban("anyio.to_thread", PURE, IN_THREAD, ("engine/loop/threads.py",)),
    Ban("asyncio.to_thread", PURE, IN_THREAD),
    Ban("anyio.open_file", PURE, IN_THREAD),
    Ban("anyio.Path", PURE, IN_THREAD),
    Ban("concurrent.futures", PURE, IN_THREAD),
    Ban(
        "aiosqlite",
        PURE,
        "millstream.engine.stores.sqlite.connection, whose threads get to work beside a busy loop",
        ("engine/stores/sqlite/connection.py",),
    ),
    Ban("uuid", PURE, CHANCE, LOOKS),
    Ban("random", PURE, CHANCE, (*SIMULATION, *CALLER)),
    Ban("secrets", PURE, CHANCE, (*CALLER, "engine/stores/log_id.py")),
    Ban("builtins.print", SHIPPED, "structlog for what an operator acts on, the report's rich console in bench"),
)

#: What no tracked file may say, because it is true on one machine only.
LOCAL = (
    (re.compile(r"pypi[.]or[g]|python[h]osted|registry[.]npm[j]s|(?i:artifactor[y])"), "a package registry"),
    (re.compile(r"(?i:index[-_]url)|tool\.uv\.index"), "a package index: the user's own settings name it"),
    (re.compile(r"(?<![\w.~$}-])/(?:home|Users|root|work)/[\w.{<$-]"), "a folder of somebody's machine"),
)


#: What the project was called until 0.1, and the files that have to say so.
OLD_NAME = re.compile("pensto[c]k", re.IGNORECASE)
MAY_SAY_THE_OLD_NAME = (
    "CHANGELOG.md",
    "engine/commits/marks.py",
    "tests/behaviour/test_old_files.py",
    "tests/behaviour/written_by_0_1/",
    "docs/how-to/upkeep.md",  # it shows the header of an export
)


# What is looked at.


@dataclass(frozen=True)
class Source:
    """One Python file, by its path in the checkout."""

    path: str
    text: str

    @property
    def room(self) -> str:
        return self.path.partition("/")[0]

    @property
    def is_init(self) -> bool:
        return self.path.endswith("__init__.py")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @cached_property
    def nodes(self) -> tuple[ast.AST, ...]:
        """All of the tree, in the order of `ast.walk`."""
        return tuple(ast.walk(self.tree))

    @cached_property
    def exported(self) -> list[str] | None:
        """What ``__all__`` lists; None when there is none."""
        for node in self.tree.body:
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value and "__all__" in _assigned(node):
                return [str(name) for name in ast.literal_eval(node.value)]
        return None

    @cached_property
    def origins(self) -> dict[str, str]:
        """Where the imported names come from: ``{"pc": "time.perf_counter"}``."""
        found: dict[str, str] = {}
        for node in self.nodes:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    found[alias.asname or alias.name.partition(".")[0]] = (
                        alias.name if alias.asname else alias.name.partition(".")[0]
                    )
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        return found

    def at(self, line: int, problem: str) -> str:
        return f"{self.path}:{line}: {problem}"


Check: TypeAlias = Callable[[Source], Iterable[str]]


def rooms() -> list[str]:
    """The top-level folders that hold Python files."""
    folders = (folder.name for folder in ROOT.iterdir() if folder.is_dir())
    return sorted(
        name
        for name in folders
        if not name.startswith(".")
        and name not in ARTIFACTS
        and not name.endswith(".egg-info")
        and next((ROOT / name).rglob("*.py"), None) is not None
    )


def sources(room: str) -> Iterator[Source]:
    """The files of a room, one after another: their trees together are more than all else that a run of tests keeps."""
    for path in sorted((ROOT / room).rglob("*.py")):
        yield Source(path.relative_to(ROOT).as_posix(), path.read_text("utf-8"))


@cache
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def _assigned(node: ast.stmt) -> Iterator[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    for target in targets:
        yield from (name.id for name in ast.walk(target) if isinstance(name, ast.Name))


def _defined(tree: ast.Module) -> dict[str, int]:
    """Names that a module makes itself, not those it imports, with their lines."""
    found: dict[str, int] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found[node.name] = node.lineno
        else:
            found |= dict.fromkeys(_assigned(node), node.lineno)
    return found


def _is_type_variable(source: Source, name: str) -> bool:
    return any(
        name in _assigned(node)
        and isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Call)
        and _dotted(source, node.value.func) in ("typing.TypeVar", "typing.ParamSpec", "typing_extensions.TypeVar")
        for node in source.tree.body
    )


def _dotted(source: Source, node: ast.expr) -> str | None:
    """The full name that an expression refers to, through the module's imports: ``pc`` → ``time.perf_counter``."""
    if isinstance(node, ast.Name):
        return source.origins.get(node.id, f"builtins.{node.id}")
    if isinstance(node, ast.Attribute):
        inner = _dotted(source, node.value)
        return None if inner is None else f"{inner}.{node.attr}"
    return None


# Imports.


def _imports(source: Source) -> Iterator[tuple[int, str]]:
    for node in source.nodes:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            name = "." * node.level + (node.module or "")
            if name in ("millstream", "millstream.engine"):
                yield from ((node.lineno, f"{name}.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, name


def wrong_directions(source: Source) -> Iterator[str]:
    """Imports of ours that point where the folder may not look."""
    allowed = MAY_IMPORT.get(source.room, ())
    for line, name in _imports(source):
        ours = name.partition(".")[0] in {"millstream", "examples", "tests"}
        if ours and not any(name == may or name.startswith(may + ".") for may in allowed):
            yield source.at(
                line, f"{source.room}/ may not import {name}, only {', '.join(allowed) or 'nothing of ours'}"
            )


def wrong_floors(source: Source) -> Iterator[str]:
    """Imports inside the engine that go up, or across a floor."""
    parts = Path(source.path).with_suffix("").parts
    if parts[0] != "engine" or parts[1] == "__init__":
        return
    here = parts[1]
    if here not in FLOOR_OF:
        yield source.at(1, f"{here} is on no floor: give it one in FLOORS, or move the module into a room")
        return
    for line, name in _imports(source):
        there = (name.split(".") + [""] * 3)[2]
        if name == "millstream.engine":
            yield source.at(line, "import millstream.engine is all of it at once: name the module that is meant")
        if not name.startswith("millstream.engine.") or there == here:
            continue
        if FLOOR_OF.get(there, len(FLOORS)) >= FLOOR_OF[here]:
            yield source.at(line, f"engine/{here} may not stand on {there}: it is not on a floor below")
        elif here in STANDS_ON and there not in STANDS_ON[here]:
            yield source.at(line, f"engine/{here} stands on {', '.join(sorted(STANDS_ON[here]))} alone, not on {there}")


def relative_imports(source: Source) -> Iterator[str]:
    """Imports of ours that are not absolute."""
    for line, name in _imports(source):
        if name.startswith("."):
            yield source.at(line, f"import {name} is relative: write from millstream.… import …")
        elif name.partition(".")[0] in SHIPPED:
            yield source.at(line, f"import {name} is not ours in a user's installation: write millstream.{name}")


def _distributions(extras: Iterable[str]) -> set[str]:
    table = project()["project"]
    requirements = list(table["dependencies"])
    for extra in extras:
        requirements += table["optional-dependencies"][extra]
    return {re.split(r"[^\w.-]", requirement)[0].replace("-", "_").lower() for requirement in requirements}


def undeclared_imports(source: Source) -> Iterator[str]:
    """Packages that a user would not have."""
    if source.room not in SHIPPED:
        return
    extras: Iterable[str] = ("cli",) if source.path.startswith("engine/cli/") else ()
    if source.path == "handlers/calendar.py":
        extras = ("calendar",)
    if source.path.startswith("engine/web/"):
        extras = ("web",)
    if source.path.startswith("engine/telemetry/"):
        extras = ("telemetry",)
    if source.path.startswith("views/sql/"):
        extras = ("sql",)
    if source.path.startswith("engine/stores/postgres/"):
        extras = ("postgres",)
    if source.path == "engine/outside/retrying.py":
        extras = ("effects",)
    if source.room == "bench":
        extras = project()["project"]["optional-dependencies"]
    declared = _distributions(extras) | {"millstream"} | sys.stdlib_module_names
    if "opentelemetry_api" in declared:
        declared |= {"opentelemetry"}  # which it imports as
    if source.path.startswith("bench/peers/"):
        declared |= PEERS
    if source.path == "bench/http/frameworks.py":
        declared |= {"fastapi", "pydantic", "sqlalchemy"}
    if source.path == "engine/testing/plugin.py" or source.path.startswith("engine/testing/stores/"):
        declared |= {"pytest"}  # which loads it
    for line, name in _imports(source):
        if not name.startswith(".") and name.partition(".")[0].lower() not in declared:
            yield source.at(line, f"{name} is no dependency in pyproject.toml: declare it, or do without")


# Sizes, docstrings and exports.


def long_modules(source: Source) -> Iterator[str]:
    """Shipped modules that are more than one room."""
    lines = source.text.count("\n")
    if source.room in SHIPPED and lines > MODULE_LINES_MAX:
        yield source.at(lines, f"{lines} lines, at most {MODULE_LINES_MAX}: split it by what changes together")


def long_functions(source: Source) -> Iterator[str]:
    """Functions that nobody can hold in their head."""
    for node in source.nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                yield source.at(
                    node.lineno, f"{node.name}() has {lines} lines, at most {FUNCTION_LINES_MAX}: take parts out"
                )


def missing_docstrings(source: Source) -> Iterator[str]:
    """Shipped modules, and the classes and functions that they export, without a docstring."""
    if source.room not in SHIPPED:
        return
    if not ast.get_docstring(source.tree):
        yield source.at(1, "the module opens with no docstring: say what lives here, and what does not")
    for node in source.tree.body:
        if (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            and not _declares(source, node)
            and not node.name.startswith("_")
            and node.name in (source.exported or ())
            and not ast.get_docstring(node)
            and not any(isinstance(each, ast.Name) and each.id == "overload" for each in node.decorator_list)
        ):
            yield source.at(node.lineno, f"{node.name} is public and has no docstring: it is a contract")


def _declares(source: Source, node: ast.stmt) -> bool:
    """A message or model of an application, bench's: its name, its fields and its annotations say it all."""
    bases = node.bases if isinstance(node, ast.ClassDef) else []
    plain = [base.value if isinstance(base, ast.Subscript) else base for base in bases]
    return any(_dotted(source, base) in DECLARATIONS for base in plain)


def busy_packages(source: Source) -> Iterator[str]:
    """Package files of what is shipped that do more than export again."""
    if source.room not in SHIPPED or not source.is_init:
        return
    for index, node in enumerate(source.tree.body):
        is_docstring = index == 0 and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        is_exports = isinstance(node, ast.Assign | ast.AnnAssign) and set(_assigned(node)) == {"__all__"}
        if not (is_docstring or is_exports or isinstance(node, ast.Import | ast.ImportFrom)):
            yield source.at(node.lineno, "an __init__.py has a docstring, imports and __all__: move this to a module")


def inexact_exports(source: Source) -> Iterator[str]:
    """``__all__`` that is missing, lists what is not there, or leaves out what is."""
    if source.room not in SHIPPED:
        return
    if source.exported is None:
        if source.is_init or any(not name.startswith("_") for name in _defined(source.tree)):
            yield source.at(1, "no __all__: list what others may use")
        return
    names, defined = source.exported, _defined(source.tree)
    yield from (source.at(1, f"__all__ lists {name!r} twice") for name in sorted(set(names)) if names.count(name) > 1)
    if source.is_init:
        there = dict.fromkeys(_reexported(source.tree), 1)
    else:
        there = {name: line for name, line in defined.items() if not name.startswith("_")}
        there = {name: line for name, line in there.items() if not _is_type_variable(source, name)}
    yield from (source.at(1, f"__all__ lists {name!r}, which is not here") for name in sorted({*names} - {*there}))
    yield from (
        source.at(there[name], f"{name!r} is not in __all__: list it, or call it _{name}")
        for name in sorted({*there} - {*names})
    )


def _reexported(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module != "__future__":
            yield from (alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)


# Banned names.


def banned_names(source: Source) -> Iterator[str]:
    """Uses of what has a replacement, called or passed on, under whatever name it was imported."""
    bans = [ban for ban in BANS if source.room in ban.rooms and source.path not in ban.except_in]
    excused = {id(node.func) for node in source.nodes if isinstance(node, ast.Call) and _lets_others_run(node)}
    for node in source.nodes:
        used: list[str | None] = []
        if isinstance(node, ast.Name | ast.Attribute) and id(node) not in excused:
            used = [_dotted(source, node)]
        elif isinstance(node, ast.Import | ast.ImportFrom):
            used = [alias.name if isinstance(node, ast.Import) else node.module for alias in node.names]
        for name in used:
            for ban in bans:
                if name == ban.name:
                    yield source.at(getattr(node, "lineno", 1), f"{ban.name} is banned here; use {ban.instead}")


def _lets_others_run(call: ast.Call) -> bool:
    """``sleep(0)`` waits for nothing."""
    return len(call.args) == 1 and isinstance(call.args[0], ast.Constant) and call.args[0].value == 0


def swallowed_errors(source: Source) -> Iterator[str]:
    """``except`` without a type, and errors of any kind that vanish."""
    for node in source.nodes:
        if not isinstance(node, ast.ExceptHandler):
            continue
        if node.type is None:
            yield source.at(node.lineno, "bare except; name the errors, or write except BaseException and raise again")
        elif _names_any_error(source, node.type) and all(_does_nothing(each) for each in node.body):
            yield source.at(node.lineno, "an error of any kind vanishes; name the errors, or log, keep or raise it")


def _names_any_error(source: Source, kind: ast.expr) -> bool:
    kinds = kind.elts if isinstance(kind, ast.Tuple) else [kind]
    return any(_dotted(source, each) in ("builtins.Exception", "builtins.BaseException") for each in kinds)


def _does_nothing(node: ast.stmt) -> bool:
    return isinstance(node, ast.Pass | ast.Continue) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    )


CHECKS: tuple[Check, ...] = (
    wrong_directions,
    wrong_floors,
    relative_imports,
    undeclared_imports,
    long_modules,
    long_functions,
    missing_docstrings,
    busy_packages,
    inexact_exports,
    banned_names,
    swallowed_errors,
)


@pytest.mark.parametrize("room", rooms())
def test_every_source_file_is_tidy(room: str) -> None:
    problems = [problem for source in sources(room) for check in CHECKS for problem in check(source)]
    assert not problems, "\n" + "\n".join(problems)


DOC = '"""D."""\n'

#: A check, a file and its text that the check must object to, and a part of what it must say.
OFFENDERS: tuple[tuple[Check, str, str, str], ...] = (
    (
        wrong_directions,
        "engine/x.py",
        "from millstream.handlers import WriteModel",
        "engine/ may not import millstream.handlers",
    ),
    (wrong_directions, "engine/x.py", "def f():\n    import millstream.views.view", "x.py:2: engine/ may not import"),
    (wrong_directions, "engine/x.py", "if TYPE_CHECKING:\n    from millstream import bench", "millstream.bench"),
    (wrong_directions, "handlers/x.py", "from millstream import views", "may not import millstream.views"),
    (
        wrong_directions,
        "views/x.py",
        "from millstream.handlers.model import handles",
        "may not import millstream.handlers",
    ),
    (wrong_directions, "views/x.py", "import millstream", "may not import millstream"),
    (wrong_directions, "bench/x.py", "from tests.shop import shop", "may not import tests.shop"),
    (wrong_directions, "bench/x.py", "import examples.bank", "may not import examples.bank"),
    (wrong_directions, "examples/x.py", "from tests import support", "may not import tests"),
    (wrong_directions, "elsewhere/x.py", "import millstream.engine", "nothing of ours"),
    (
        wrong_floors,
        "engine/write/writer.py",
        "from millstream.engine.read.state import ReadState",
        "engine/write may not stand on read",
    ),
    (
        wrong_floors,
        "engine/read/x.py",
        "def f():\n    import millstream.engine.write.index",
        "x.py:2: engine/read may not stand on write",
    ),
    (
        wrong_floors,
        "engine/stores/sqlite/x.py",
        "from millstream.engine.upkeep import verify_log",
        "not stand on upkeep",
    ),
    (wrong_floors, "engine/loop/x.py", "from millstream.engine import application", "not stand on application"),
    (wrong_floors, "engine/upkeep/x.py", "from millstream.engine.engine import Engine", "not stand on engine"),
    (wrong_floors, "engine/server/x.py", "from millstream.engine import Engine", "may not stand on Engine"),
    (wrong_floors, "engine/stores/x.py", "import millstream.engine as e", "name the module that is meant"),
    (wrong_floors, "engine/x.py", "", "x is on no floor"),
    (
        wrong_floors,
        "engine/client/x.py",
        "from millstream.engine.commits.commit import Head",
        "engine/client stands on application, errors, lifecycle, loop, observers, stats, wire alone, not on commits",
    ),
    (relative_imports, "engine/x.py", "from .commit import Head", "import .commit is relative"),
    (relative_imports, "engine/stores/x.py", "from .. import commit", "import .. is relative"),
    (
        relative_imports,
        "tests/x.py",
        "from engine.commits.commit import Head",
        "write millstream.engine.commits.commit",
    ),
    (relative_imports, "examples/x.py", "import views", "write millstream.views"),
    (undeclared_imports, "engine/x.py", "import rich", "rich is no dependency"),
    (undeclared_imports, "engine/cli/x.py", "import hypothesis", "hypothesis is no dependency"),
    (undeclared_imports, "engine/server/x.py", "import starlette", "starlette is no dependency"),
    (undeclared_imports, "engine/web/x.py", "import fastapi", "fastapi is no dependency"),
    (undeclared_imports, "views/x.py", "from pandas import DataFrame", "pandas is no dependency"),
    (undeclared_imports, "bench/x.py", "import hypothesis", "hypothesis is no dependency"),
    (undeclared_imports, "bench/x.py", "import umadb", "umadb is no dependency"),
    (long_modules, "engine/x.py", "#\n" * 501, "501 lines, at most 500"),
    (long_functions, "tests/x.py", "def f():\n" + "    pass\n" * 70, "f() has 71 lines, at most 70"),
    (long_functions, "views/x.py", "class C:\n  async def m(self):\n" + "    pass\n" * 70, "m() has 71 lines"),
    (missing_docstrings, "bench/x.py", "__all__ = []", "opens with no docstring"),
    (missing_docstrings, "views/x.py", DOC + "__all__ = ['V']\nclass V: pass", "x.py:3: V is public"),
    (missing_docstrings, "views/x.py", DOC + "__all__ = ['v']\nasync def v(): pass", "v is public"),
    (busy_packages, "engine/__init__.py", DOC + "LIMIT = 3", "__init__.py:2: an __init__.py has"),
    (busy_packages, "engine/stores/__init__.py", "def f(): pass", "move this to a module"),
    (busy_packages, "views/__init__.py", DOC + '"another"', "move this to a module"),
    (inexact_exports, "engine/x.py", "def f(): pass", "no __all__"),
    (inexact_exports, "engine/__init__.py", DOC, "no __all__"),
    (inexact_exports, "engine/x.py", "__all__ = ['f', 'g']\ndef f(): pass", "lists 'g', which is not here"),
    (inexact_exports, "engine/x.py", "from os import path\n__all__ = ['path']", "lists 'path', which is not here"),
    (inexact_exports, "engine/x.py", "__all__ = ['f', 'f']\ndef f(): pass", "lists 'f' twice"),
    (inexact_exports, "engine/x.py", "__all__ = []\n\nLIMIT: int = 3", "x.py:3: 'LIMIT' is not in __all__"),
    (inexact_exports, "engine/__init__.py", "from a import b, c\n__all__ = ['b']", "'c' is not in __all__"),
    (inexact_exports, "engine/__init__.py", "from a import b\n__all__ = ['b', 'c']", "lists 'c', which is not here"),
    (
        banned_names,
        "engine/x.py",
        "import time\nx = time.time()",
        "x.py:2: time.time is banned here; use millstream.engine.loop.clock",
    ),
    (banned_names, "tests/x.py", "from time import time as t\nt()", "time.time is banned"),
    (banned_names, "handlers/x.py", "from time import perf_counter as pc\nf = pc", "clock.elapsed"),
    (banned_names, "bench/x.py", "from datetime import datetime\ndatetime.now()", "datetime.datetime.now is banned"),
    (banned_names, "engine/x.py", "import datetime as d\nd.datetime.now(d.UTC)", "datetime.datetime.now is banned"),
    (banned_names, "engine/x.py", "import anyio.to_thread\nanyio.to_thread.run_sync(f)", "threads.in_thread"),
    (banned_names, "engine/x.py", "from asyncio import to_thread\nto_thread(f)", "threads.in_thread"),
    (banned_names, "engine/x.py", "import anyio\nanyio.open_file(path)", "threads.in_thread"),
    (banned_names, "engine/x.py", "from concurrent.futures import ThreadPoolExecutor", "threads.in_thread"),
    (banned_names, "engine/x.py", "import aiosqlite", "millstream.engine.stores.sqlite.connection"),
    (banned_names, "views/x.py", "import uuid", "uuid is banned"),
    (banned_names, "engine/x.py", "from uuid import uuid4", "uuid is banned"),
    (banned_names, "engine/x.py", "print('hello')", "builtins.print is banned here; use structlog"),
    (banned_names, "tests/x.py", "import asyncio\nawait asyncio.sleep(0.1)", "asyncio.sleep is banned"),
    (banned_names, "tests/x.py", "import anyio\nawait anyio.sleep(1)", "use tests.support.settled"),
    (banned_names, "bench/x.py", "import time\ntime.sleep(1)", "use anyio.sleep"),
    (banned_names, "tests/x.py", "from time import sleep\nsleep(n)", "time.sleep is banned"),
    (swallowed_errors, "tests/x.py", "try:\n    f()\nexcept:\n    g()", "x.py:3: bare except"),
    (swallowed_errors, "engine/x.py", "try:\n    f()\nexcept Exception:\n    pass", "vanishes"),
    (swallowed_errors, "engine/x.py", "try:\n    f()\nexcept (OSError, BaseException) as e:\n    ...", "vanishes"),
    (swallowed_errors, "engine/x.py", "for x in y:\n  try:\n    f()\n  except Exception:\n    continue", "vanishes"),
)


@pytest.mark.parametrize(("check", "path", "text", "expected"), OFFENDERS)
def test_each_check_objects_to_what_it_is_for(check: Check, path: str, text: str, expected: str) -> None:
    problems = list(check(Source(path, text)))
    assert problems, f"{check.__name__} passed over {text!r}"
    assert expected in "\n".join(problems)


#: Files that look like offenders and are not.
INNOCENTS = (
    ("engine/stores/x.py", DOC + "from millstream.engine.commits.commit import Head\nimport msgspec\n__all__ = []"),
    ("engine/loop/clock.py", DOC + "from time import perf_counter, time\n__all__ = ['e']\ne = perf_counter"),
    ("engine/stores/x.py", DOC + "__all__ = []\ntry:\n    _f()\nexcept OSError:\n    pass"),
    ("engine/stores/x.py", DOC + "from typing import TypeVar\nT = TypeVar('T')\n__all__ = []"),
    ("engine/stores/x.py", DOC + "from typing_extensions import TypeVar\nT = TypeVar('T')\n__all__ = []"),
    ("engine/__init__.py", DOC + "from a import b as c\n__all__: list[str] = ['c']".replace("from a", "from msgspec")),
    ("engine/cli/x.py", DOC + "import typer\n__all__ = []"),
    ("bench/x.py", DOC + "from time import perf_counter\nimport rich.table\n__all__ = ['run']\ndef run():\n    'D'"),
    ("bench/x.py", DOC + "from millstream.engine import Query\n__all__ = ['Q']\nclass Q(Query[int]): pass"),
    ("engine/stores/x.py", DOC + "__all__ = []\n\n\ndef _f(random, uuid):\n    return random + uuid"),
    ("tests/x.py", "import asyncio\nawait asyncio.sleep(0)\nimport tests.shop"),
    ("examples/x.py", "from time import perf_counter\nprint(perf_counter())"),
)


@pytest.mark.parametrize(("path", "text"), INNOCENTS)
def test_no_check_objects_to_what_is_allowed(path: str, text: str) -> None:
    assert [problem for check in CHECKS for problem in check(Source(path, text))] == []


# The project's own lists.


def shipped_rooms() -> list[str]:
    return [room for room in rooms() if room not in NOT_SHIPPED]


def test_every_top_level_folder_has_its_place_in_the_import_rules() -> None:
    assert set(rooms()) == set(MAY_IMPORT)
    assert set(shipped_rooms()) == SHIPPED


def test_the_packages_of_the_project_are_the_folders_that_hold_python_files() -> None:
    folders = {Path(source.path).parent for room in shipped_rooms() for source in sources(room)}
    expected = sorted(".".join(("millstream", *folder.parts)) for folder in folders)
    assert project()["tool"]["setuptools"]["packages"] == expected
    assert sorted(folder.as_posix() for folder in folders if not (ROOT / folder / "__init__.py").exists()) == []


def test_every_shipped_folder_is_mapped_typed_rebuilt_and_checked() -> None:
    shipped, tool = shipped_rooms(), project()["tool"]
    assert tool["setuptools"]["package-dir"] == {f"millstream.{room}": room for room in shipped}
    assert [room for room in shipped if not (ROOT / room / "py.typed").exists()] == []
    keys = {key["file"] for key in tool["uv"]["cache-keys"]}
    assert keys == {"pyproject.toml", *(f"{room}/**/*.py" for room in shipped)}
    (line,) = re.findall(r"^SHIPPED := (.*)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert {name.strip() for name in line.split("-p ") if name} == {f"millstream.{room}" for room in shipped}


def test_millstream_itself_is_a_namespace_without_a_file_of_its_own() -> None:
    assert not (ROOT / "__init__.py").exists()
    assert not (ROOT / "millstream").exists()


def test_the_map_shows_every_room_on_its_floor() -> None:
    rows = re.findall(r"^\| *(\d*) *\| `(\w+)` \|", (ROOT / "ARCHITECTURE.md").read_text("utf-8"), re.MULTILINE)
    shown: dict[str, int] = {}
    floor = 0
    for number, room in rows:
        floor = int(number) if number else floor
        shown[room] = floor - 1
    assert shown == FLOOR_OF
    here = {Path(source.path).with_suffix("").parts[1] for source in sources("engine")}
    assert here - {"__init__"} == set(FLOOR_OF)


# What git tracks.


def tracked() -> list[str]:
    """The files that are in git, or would be with the next ``git add``."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return sorted(name for name in set(listed.stdout.decode().split("\0")) if (ROOT / name).is_file())


def local_matters(path: str, text: str) -> Iterator[str]:
    """Lines that are true on one machine only."""
    for number, line in enumerate(text.splitlines(), start=1):
        for pattern, what in LOCAL:
            if found := pattern.search(line):
                yield f"{path}:{number}: {found[0]!r} names {what}"


def test_nothing_that_git_tracks_is_true_on_one_machine_only() -> None:
    names = tracked()
    assert [name for name in names if Path(name).name == "uv.lock"] == []
    made = {".db", ".pyc", ".whl", ".html"}  # but the page that is shipped
    assert [name for name in names if Path(name).suffix in made and not name.startswith("engine/web/console/")] == []
    problems = [
        problem for name in names for problem in local_matters(name, (ROOT / name).read_text("utf-8", errors="ignore"))
    ]
    assert not problems, "\n" + "\n".join(problems)


@pytest.mark.parametrize(
    "line",
    [
        "source = 'https://{}.org/simple'".format("pypi"),
        "https://files.python{}.org/packages".format("hosted"),
        "[[tool.uv.{}]]".format("index"),
        "pip install --{}-url https://mirror".format("index"),
        "UV_{}_URL=https://mirror".format("INDEX"),
        "open('/{}/ann/bank.db')".format("home"),
        "path: /{}/ann".format("Users"),
        '"/{}/main/engine"'.format("work"),
        "cd /{}/x".format("root"),
    ],
)
def test_a_line_that_is_true_on_one_machine_only_is_found(line: str) -> None:
    assert len(list(local_matters("README.md", line))) == 1


def old_names(path: str, text: str) -> Iterator[str]:
    """Lines that use the project's former name where nothing on disk asks for it."""
    if not path.startswith(MAY_SAY_THE_OLD_NAME):
        for number, line in enumerate(text.splitlines(), start=1):
            if OLD_NAME.search(line):
                yield f"{path}:{number}: the project is called millstream now; what is on disk is in engine/commits/marks.py"


def test_the_old_name_is_used_only_where_files_on_disk_ask_for_it() -> None:
    problems = [
        problem for name in tracked() for problem in old_names(name, (ROOT / name).read_text("utf-8", errors="ignore"))
    ]
    assert not problems, "\n" + "\n".join(problems)
    assert [name for name in tracked() if OLD_NAME.search(name)] == []


def test_the_old_name_is_found_where_it_may_not_be_and_left_where_it_may() -> None:
    line = "from {}.engine import App".format("Pen" + "stock")
    assert list(old_names("engine/application/app.py", "\n" + line)) == [
        "engine/application/app.py:2: the project is called millstream now; what is on disk is in engine/commits/marks.py"
    ]
    assert list(old_names("docs/how-to/upkeep.md", line)) == []


@pytest.mark.parametrize(
    "line", ["see the home/ann folder", "${HOME}/data/x", "~/data/bank.db", "https://x.org/home/page"]
)
def test_a_line_that_is_true_everywhere_is_left_alone(line: str) -> None:
    assert list(local_matters("README.md", line)) == []


# Words: a subject that has a name is called by it.

#: Words that stand in the place of a subject, and what is written instead.
VAGUE = {
    r"whoever": "the caller, the operator, the program: who it is",
    r"nobody": "no caller, no process, or the passive",
    r"somebody": "a caller, a process, or the passive",
    r"hears?|heard": "gets, knows",
    r"told": "gets, is given, is named",
    r"let(?:s|ting)? go of": "drops, closes, releases",
    r"(?-i:That of)": "the noun again",
}
_VAGUE = {re.compile(rf"\b(?:{word})\b", re.IGNORECASE): instead for word, instead in VAGUE.items()}
#: How many of them a file, or all pages and modules of a folder together, may have: docs, docstrings, comments,
#: messages. A bound is only ever made smaller.
VAGUE_MAX: Mapping[str, int] = {
    "README.md": 0,
    "CONTRIBUTING.md": 0,
    "docs": 0,
    "engine": 0,
    "handlers": 0,
    "program": 0,
    "views": 0,
    "examples": 0,
    "bench": 0,
}
#: What was measured on a day stays as it was written then.
RECORDS = ROOT / "docs/figures"


def vague_words(path: str, text: str) -> Iterator[str]:
    """Lines of prose with such a word; what stands in blocks is code, and may be called anything."""
    in_block = False
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith("```"):
            in_block = not in_block
        elif not in_block:
            for word, instead in _VAGUE.items():
                for found in word.finditer(line):
                    yield f"{path}:{number}: {found[0]!r}: write {instead}"


def prose_of(module: Path) -> str:
    """The comments, docstrings and messages of a module, each on its line; without names in backticks."""
    text = module.read_text("utf-8")
    lines = [""] * (text.count("\n") + 2)
    for token in tokenize.generate_tokens(StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            lines[token.start[0] - 1] += token.string
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            for number, line in enumerate(node.value.split("\n"), start=node.lineno - 1):
                lines[min(number, len(lines) - 1)] += " " + line
    return re.sub(r"(`+)[^`\n]*\1", "", "\n".join(lines))


@pytest.mark.parametrize("where", VAGUE_MAX)
def test_prose_names_its_subjects(where: str) -> None:
    place = ROOT / where
    pages = [place] if place.is_file() else [page for page in sorted(place.rglob("*.md")) if page.parent != RECORDS]
    prose = {page: page.read_text("utf-8") for page in pages}
    prose |= {module: prose_of(module) for module in sorted(place.rglob("*.py"))}
    problems = [
        problem for page, text in prose.items() for problem in vague_words(page.relative_to(ROOT).as_posix(), text)
    ]
    assert len(problems) <= VAGUE_MAX[where], "\n" + "\n".join(problems)


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("Whoever asks gets an answer.", "Whoever"),
        ("The log is for nobody.", "nobody"),
        ("- Nobody waits.", "Nobody"),
        ("The caller hears of it.", "hears"),
        ("The view is told.", "told"),
        ("The engine lets go of the log.", "lets go of"),
        ("That of the view is larger.", "That of"),
    ],
)
def test_a_vague_word_is_found_in_prose_and_not_in_a_block(line: str, word: str) -> None:
    (problem,) = vague_words("docs/x.md", f"# X\n\n{line}\n")
    assert problem.startswith(f"docs/x.md:3: {word!r}: write ")
    assert list(vague_words("docs/x.md", f"```text\n{line}\n```\n")) == []

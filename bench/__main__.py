"""The command line: ``python -m penstock.bench``. Exit code 1 when a run can't be believed, 2 when it can't begin.

A missed goal is shown and does not change the exit code: it says as much about the machine as about the engine.

``python -m penstock.bench torture`` measures nothing: it kills, and looks for what is lost (`penstock.bench.torture`).
``python -m penstock.bench histories`` kills servers, and looks at what their clients saw (`penstock.bench.histories`).
"""

from __future__ import annotations

import argparse
import sys
from fnmatch import fnmatchcase
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from penstock.bench import loops
from penstock.bench.figures import FIGURES
from penstock.bench.harness import Plan, measure
from penstock.bench.job import BenchError
from penstock.bench.machine import this_machine
from penstock.bench.summary import FigureReport, Report, summarise

__all__ = ["main"]

#: Programs of their own, with which nothing is measured, and their command lines.
_OTHERS = {
    "torture": "penstock.bench.torture.command",
    "histories": "penstock.bench.histories.command",
}

_NEEDS_RICH = "penstock.bench shows its report with rich: install the extra penstock[bench]\n"


def main(arguments: list[str]) -> int:
    """Measure what the arguments name, show it, and return the exit code; or do what the first argument names."""
    if arguments and arguments[0] in _OTHERS:
        return _other(arguments[0], arguments[1:])
    options = _options(arguments)
    if find_spec("rich") is None:
        sys.stderr.write(_NEEDS_RICH)
        return 2
    base = Path(options.dir)
    base.mkdir(parents=True, exist_ok=True)
    try:
        with TemporaryDirectory(prefix="bench-", dir=base) as directory:
            report = _measure(options, directory)
    except BenchError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if options.json:
        Path(options.json).write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    return 0


def _other(name: str, arguments: list[str]) -> int:
    command = import_module(_OTHERS[name])
    options = command.options(arguments)
    if find_spec("rich") is None:
        sys.stderr.write(_NEEDS_RICH)
        return 2
    code: int = command.main(options)
    return code


def _measure(options: argparse.Namespace, directory: str) -> Report:
    from penstock.bench import report as look  # noqa: PLC0415 - needs rich, and `main` says so when it is missing

    machine = this_machine(Path(directory))
    plan = Plan(
        loops=loops.available() if options.loop == "both" else [options.loop],
        directory=directory,
        runs=options.runs,
        smoke=options.smoke,
        lanes=machine.cores if options.smoke else 1,
    )
    out = look.console()
    look.show_machine(out, machine, runs=plan.runs, smoke=plan.smoke)
    done: list[FigureReport] = []
    for figure in FIGURES:
        if not options.only or any(fnmatchcase(figure.name, name) for name in options.only):
            with out.status(figure.name) as status:
                results = measure(figure, plan, tell=status.update)
            done.append(summarise(figure, results, smoke=plan.smoke))
            look.show_figure(out, done[-1])
    report = Report(machine=machine, runs=plan.runs, smoke=plan.smoke, figures=done)
    look.show_verdict(out, report)
    return report


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m penstock.bench",
        description="penstock's figures on this machine",
        epilog="'python -m penstock.bench torture' kills processes instead, and looks for what is lost; "
        "'python -m penstock.bench histories' looks at what clients saw meanwhile: see their --help",
    )
    parser.add_argument(
        "--smoke", action="store_true", help="every figure once, on asyncio, too small to mean anything"
    )
    parser.add_argument("--loop", choices=["asyncio", "uvloop", "both"], help="default: both, if uvloop is there")
    parser.add_argument("--runs", type=_count, help="of each contender; default 3, and 1 with --smoke")
    parser.add_argument("--only", nargs="+", metavar="NAME", type=_name, help="of figures; 'socket-*' is all such")
    parser.add_argument("--json", metavar="PATH", help="write the report there, too")
    parser.add_argument("--dir", metavar="PATH", default="out", help="where files go, on a real disk; default: out")
    options = parser.parse_args(arguments)
    if options.loop is None:
        options.loop = "asyncio" if options.smoke else "both"
    if options.loop not in ("both", *loops.available()):
        parser.error("--loop uvloop needs uvloop: install the extra penstock[uvloop]")
    if options.runs is None:
        options.runs = 1 if options.smoke else 3
    return options


def _name(text: str) -> str:
    if not any(fnmatchcase(figure.name, text) for figure in FIGURES):
        raise argparse.ArgumentTypeError(f"there is {', '.join(figure.name for figure in FIGURES)}, but no {text!r}")
    return text


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number from 1 on, not {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

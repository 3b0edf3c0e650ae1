"""The command line: ``python -m millstream.bench``. Exit code 1 when a run can't be believed, 2 when it can't begin.

A missed goal is shown and does not change the exit code: it says as much about the machine as about the engine.

``python -m millstream.bench quick`` gives one table in minutes (`millstream.bench.quick`).
``python -m millstream.bench run APP --commands FILE`` measures a user's own application (`millstream.bench.user_app`).
``python -m millstream.bench show REPORT.json`` shows earlier reports again (`millstream.bench.show_command`).
``python -m millstream.bench compare OLD NEW`` runs two versions of the engine in pairs (`millstream.bench.pairs`).
``python -m millstream.bench torture`` kills, and looks for what is lost (`millstream.bench.proofs.torture`).
``python -m millstream.bench histories`` kills servers, and asks their clients (`millstream.bench.proofs.histories`).
"""

from __future__ import annotations

import argparse
import sys
from fnmatch import fnmatchcase
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

from millstream.bench import loops
from millstream.bench.arguments import count
from millstream.bench.figures import FIGURES
from millstream.bench.harness import Plan, measure
from millstream.bench.job import BenchError
from millstream.bench.machine import this_machine
from millstream.bench.publishing import add_options, hand_over, missing
from millstream.bench.summary import FigureReport, Report, summarise
from millstream.engine.loop.clock import utc_now

__all__ = ["main", "options"]

#: Programs of their own, and their command lines.
_OTHERS = {
    "run": "millstream.bench.user_app.command",
    "quick": "millstream.bench.quick.command",
    "show": "millstream.bench.show_command",
    "compare": "millstream.bench.pairs.command",
    "torture": "millstream.bench.proofs.torture.command",
    "histories": "millstream.bench.proofs.histories.command",
}


def main(arguments: list[str]) -> int:
    """Measure what the arguments name, show it, and return the exit code; or do what the first argument names."""
    if arguments and arguments[0] in _OTHERS:
        return _other(arguments[0], arguments[1:])
    if arguments and ":" in arguments[0]:  # an application, as module:attribute
        return _other("run", arguments)
    chosen = options(arguments)
    if needed := missing(chosen):
        sys.stderr.write(needed)
        return 2
    base = Path(chosen.dir)
    base.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="bench-", dir=base) as directory:
        report, failed = _measure(chosen, directory)
    if report.figures:
        hand_over(report, chosen)
    for name in failed:
        sys.stderr.write(f"{name} failed, and is not in the report\n")
    return 1 if failed else 0


def _other(name: str, arguments: list[str]) -> int:
    command = import_module(_OTHERS[name])
    chosen = command.options(arguments)
    if needed := missing(chosen):
        sys.stderr.write(needed)
        return 2
    code: int = command.main(chosen)
    return code


def _measure(options: argparse.Namespace, directory: str) -> tuple[Report, list[str]]:
    """The report, and the names of the figures that failed: hours of others are not lost with them."""
    from millstream.bench import report as look  # noqa: PLC0415 - needs rich, and `main` says so when it is missing

    machine, made_at = this_machine(Path(directory)), utc_now().isoformat(" ", "seconds")
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
    failed: list[str] = []
    for figure in FIGURES:
        if not options.only or any(fnmatchcase(figure.name, name) for name in options.only):
            try:
                with out.status(figure.name) as status:
                    results = measure(figure, plan, tell=status.update)
            except BenchError as error:
                sys.stderr.write(f"{error}\n")
                failed.append(figure.name)
                continue
            done.append(summarise(figure, results, smoke=plan.smoke))
            look.show_figure(out, done[-1])
    report = Report(machine=machine, runs=plan.runs, smoke=plan.smoke, figures=done, made_at=made_at)
    look.show_verdict(out, report)
    return report, failed


def options(arguments: list[str]) -> argparse.Namespace:
    """What the arguments say; ends the program when they are wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m millstream.bench",
        description="millstream's figures on this machine",
        epilog="'python -m millstream.bench quick' gives one table in minutes; "
        "'python -m millstream.bench run' measures an application of your own; "
        "'python -m millstream.bench show' shows earlier reports again; "
        "'python -m millstream.bench compare' runs two versions of the engine in pairs; "
        "'python -m millstream.bench torture' kills processes instead, and looks for what is lost; "
        "'python -m millstream.bench histories' looks at what clients saw meanwhile: see their --help",
    )
    parser.add_argument(
        "--smoke", action="store_true", help="every figure once, on asyncio, too small to mean anything"
    )
    parser.add_argument("--loop", choices=["asyncio", "uvloop", "both"], help="default: both, if uvloop is there")
    parser.add_argument("--runs", type=count, help="of each contender; default 3, and 1 with --smoke")
    parser.add_argument("--only", nargs="+", metavar="NAME", type=_name, help="of figures; 'socket-*' is all such")
    add_options(parser)
    parser.add_argument("--dir", metavar="PATH", default="out", help="where files go, on a real disk; default: out")
    found = parser.parse_args(arguments)
    if found.loop is None:
        found.loop = "asyncio" if found.smoke else "both"
    if found.loop not in ("both", *loops.available()):
        parser.error("--loop uvloop needs uvloop: install the extra millstream[uvloop]")
    if found.runs is None:
        found.runs = 1 if found.smoke else 3
    return found


def _name(text: str) -> str:
    if not any(fnmatchcase(figure.name, text) for figure in FIGURES):
        raise argparse.ArgumentTypeError(f"there is {', '.join(figure.name for figure in FIGURES)}, but no {text!r}")
    return text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The command line: ``millstream bench APP --commands FILE``, or ``python -m millstream.bench run APP …``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median, median_low
from tempfile import TemporaryDirectory

import msgspec

from millstream.bench import loops
from millstream.bench.arguments import count
from millstream.bench.harness import run_apart, run_worker
from millstream.bench.job import BenchError, Job, Result
from millstream.bench.machine import this_machine
from millstream.bench.programs import PROGRAMS
from millstream.bench.publishing import add_options, hand_over
from millstream.bench.summary import FigureReport, Report, Row
from millstream.bench.user_app.work import NoCommands, OwnJob, commands_in
from millstream.bench.workload import Workload
from millstream.engine import MillstreamError
from millstream.engine.cli.load import load_app
from millstream.engine.loop.clock import utc_now

__all__ = ["main", "options"]

_WORKER = "millstream.bench.user_app.worker"
_DURABILITY = "durable: an fsync per commit of a batch"
_DISK = Workload(commands=1_000, warmup=100)


def options(arguments: list[str]) -> argparse.Namespace:
    """What the arguments say; ends the program when they are wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m millstream.bench run",
        description="measure an application of your own, with commands of your own",
    )
    parser.add_argument("app", metavar="APP", help="the application, as module:attribute, like shop.main:app")
    parser.add_argument("--commands", metavar="FILE", required=True, help="JSON, one command a line")
    parser.add_argument("--setup", metavar="FILE", help="commands that are executed before, and not measured")
    parser.add_argument("--callers", type=count, default=100, help="who each wait for a receipt; default: 100")
    parser.add_argument("--rate", type=_rate, help="commands a second on a schedule, instead of callers who wait")
    parser.add_argument("--warmup", type=count, help="commands at the start that don't count; default: every tenth")
    parser.add_argument("--runs", type=count, default=3, help="each in a fresh process; default: 3")
    parser.add_argument("--loop", choices=["asyncio", "uvloop", "both"], help="default: both, if uvloop is there")
    parser.add_argument("--dir", metavar="PATH", default="out", help="where the log goes, on a real disk; default: out")
    add_options(parser)
    found = parser.parse_args(arguments)
    if found.loop not in (None, "both", *loops.available()):
        parser.error("--loop uvloop needs uvloop: install the extra millstream[uvloop]")
    return found


def main(options: argparse.Namespace) -> int:
    """Measure, show it, and return the exit code: 1 when a run failed, 2 when it can't begin."""
    from millstream.bench.user_app import show  # noqa: PLC0415 - needs rich, and its caller says so

    try:
        app = load_app(options.app)
        count = len(commands_in(app, options.commands))
        if options.setup:
            commands_in(app, options.setup)
        warmup = count // 10 if options.warmup is None else options.warmup
        if count <= warmup:
            raise NoCommands(options.commands, f"{count} commands, and {warmup} of them to warm up: none is left")
    except (NoCommands, MillstreamError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    base = Path(options.dir)
    base.mkdir(parents=True, exist_ok=True)
    try:
        with TemporaryDirectory(prefix="own-", dir=base) as directory:
            report = _measure(options, warmup, count, Path(directory))
    except BenchError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    show.show(report)
    hand_over(report, options)
    return 0


def _measure(options: argparse.Namespace, warmup: int, count: int, directory: Path) -> Report:
    machine, made_at = this_machine(directory), utc_now().isoformat(" ", "seconds")
    chosen = loops.available() if options.loop in (None, "both") else [options.loop]
    results: dict[str, list[Result]] = {loop: [] for loop in chosen}
    disk: list[Result] = []
    for _ in range(options.runs):
        for loop in chosen:
            with TemporaryDirectory(dir=directory) as own:
                job = OwnJob(
                    app=options.app,
                    setup=options.setup,
                    commands=options.commands,
                    directory=str(Path(own).resolve()),
                    loop=loop,
                    callers=options.callers,
                    rate=options.rate,
                    warmup=warmup,
                )
                results[loop].append(run_worker(_WORKER, options.app, msgspec.json.encode(job)))
        with TemporaryDirectory(dir=directory) as own:
            disk.append(run_apart(Job(program="fdatasync", workload=_DISK, directory=str(Path(own).resolve()))))
    rows = [_row(options.app, loop, those, disk) for loop, those in results.items()]
    limit = PROGRAMS["fdatasync"]
    rows.append(_plain_row("fdatasync", None, disk, limit.what, limit.durability, is_limit=True))
    how = f"{options.callers:,} callers, each awaiting its receipt"
    if options.rate:
        how = f"{options.rate:,.0f} commands a second on a schedule"
    states = {result.state for those in results.values() for result in those}
    figure = FigureReport(
        name=options.app,
        title=f"{options.app}: {count - warmup:,} commands of {Path(options.commands).name}; {how}",
        unit="commands/s",
        rows=rows,
        about=""
        if len(states) == 1
        else "The runs did not end with the same events: the application decides by more than its state and commands.",
    )
    return Report(machine=machine, runs=options.runs, smoke=False, figures=[figure], made_at=made_at)


def _row(app: str, loop: str, results: Sequence[Result], disk: Sequence[Result]) -> Row:
    row = _plain_row(app, loop, results, "the application on an engine with everything on", _DURABILITY)
    ratio = median(one.value / other.value for one, other in zip(results, disk, strict=True))
    return msgspec.structs.replace(row, ratios={"fdatasync": ratio})


def _plain_row(
    label: str, loop: str | None, results: Sequence[Result], what: str, durability: str, *, is_limit: bool = False
) -> Row:
    values = [result.value for result in results]
    names = dict.fromkeys(name for result in results for name in result.details)
    return Row(
        label=label,
        loop=loop,
        what=what,
        durability=durability,
        values=values,
        median=median(values),
        low=min(values),
        high=max(values),
        details={name: median(result.details.get(name, 0.0) for result in results) for name in names},
        series=results[values.index(median_low(values))].series,
        is_limit=is_limit,
    )


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0
    if not rate > 0:
        raise argparse.ArgumentTypeError(f"a number above 0, not {text!r}")
    return rate

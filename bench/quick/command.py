"""The command line: ``millstream bench quick``. Exit code 0 if everything ran, 1 if something did not."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from millstream.bench import loops
from millstream.bench.arguments import count
from millstream.bench.harness import Plan, measure, run_apart
from millstream.bench.job import BenchError, Job, Result
from millstream.bench.machine import this_machine
from millstream.bench.publishing import add_options, hand_over
from millstream.bench.quick.estimate import Estimate, about
from millstream.bench.quick.questions import QUESTIONS, Question, expected_turns
from millstream.bench.quick.words import answer_of
from millstream.bench.summary import FigureReport, Report, summarise
from millstream.engine.loop.clock import utc_now

__all__ = ["main", "options"]


def options(arguments: list[str]) -> argparse.Namespace:
    """What the arguments say; ends the program when they are wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m millstream.bench quick",
        description="what millstream does on this machine, beside other ways to do it: one table, in minutes",
    )
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, once: does it run?")
    parser.add_argument("--loop", choices=loops.available(), help="default: uvloop, if it is there")
    parser.add_argument("--runs", type=count, help="of each; default 3, and 1 with --smoke")
    add_options(parser)
    parser.add_argument("--dir", metavar="PATH", default="out", help="where files go, on a real disk; default: out")
    found = parser.parse_args(arguments)
    found.loop = found.loop or loops.available()[-1]
    found.runs = found.runs or (1 if found.smoke else 3)
    return found


def main(options: argparse.Namespace, *, run: Callable[[Job], Result] = run_apart) -> int:
    """Measure, show it, write what is asked for, and return the exit code. Needs rich.

    Args:
        options: what the command line says.
        run: runs one job.
    """
    from millstream.bench import report as look  # noqa: PLC0415 - needs rich, and who calls this has seen that it is there
    from millstream.bench.quick.show import show_answers, show_notes  # noqa: PLC0415 - the same

    base = Path(options.dir)
    base.mkdir(parents=True, exist_ok=True)
    out, made_at = look.console(), utc_now().isoformat(" ", "seconds")
    with TemporaryDirectory(prefix="quick-", dir=base) as directory:
        machine = this_machine(Path(directory))
        look.show_machine(out, machine, runs=options.runs, smoke=options.smoke)
        plan = Plan(loops=[options.loop], directory=directory, runs=options.runs, smoke=options.smoke, quick=True)
        found = _measure(plan, run)
    done = [(question, figure) for question, figure in zip(QUESTIONS, found, strict=True) if figure is not None]
    figures = [figure for _, figure in done]
    if done:
        show_answers(out, [answer_of(*each) for each in done])
        show_notes(out, figures, loop=options.loop, runs=options.runs)
        report = Report(machine=machine, runs=options.runs, smoke=options.smoke, figures=figures, made_at=made_at)
        hand_over(report, options)
    return 0 if len(done) == len(QUESTIONS) else 1


def _measure(plan: Plan, run: Callable[[Job], Result]) -> list[FigureReport | None]:
    """What each question came to; None where it failed, which is said, and the others go on."""
    from millstream.bench.quick.show import progress  # noqa: PLC0415 - needs rich

    estimate = Estimate([expected_turns(question, plan.runs) for question in QUESTIONS])
    found: list[FigureReport | None] = []
    failed: list[str] = []
    with progress() as tell:
        for number, question in enumerate(QUESTIONS, start=1):
            estimate.next_question()
            doing = f"{number} of {len(QUESTIONS)}: {question.done}"

            def say(_: str, doing: str = doing) -> None:
                tell(doing, f"about {about(estimate.next_turn())} left")

            try:
                found.append(_answer(question, plan, run, say))
            except BenchError as error:
                found.append(None)
                failed.append(f"{question.done}: failed, and is not in the table\n{error}\n")
    for each in failed:
        sys.stderr.write(each)
    return found


def _answer(question: Question, plan: Plan, run: Callable[[Job], Result], tell: Callable[[str], None]) -> FigureReport:
    results = measure(question.figure, plan, run=run, tell=tell)
    return summarise(question.figure, results, smoke=plan.smoke)

"""``python -m millstream.bench show REPORT.json …``: earlier reports, shown again, put together, written as pages."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from msgspec.structs import replace

from millstream.bench.publishing import add_options, hand_over, report_in
from millstream.bench.summary import Report

__all__ = ["main", "options", "together"]


def options(arguments: list[str]) -> argparse.Namespace:
    """What the arguments say; ends the program when they are wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m millstream.bench show",
        description="reports that were written with --json, shown again: several of one machine as one",
    )
    parser.add_argument("reports", nargs="+", metavar="REPORT.json", type=report_in)
    add_options(parser)
    found = parser.parse_args(arguments)
    if any(report.machine != found.reports[0].machine for report in found.reports):
        parser.error("these are reports of different machines or versions, whose figures can't stand beside each other")
    return found


def main(chosen: argparse.Namespace) -> int:
    """Show them, write what is asked for, and return the exit code."""
    from millstream.bench import report as look  # noqa: PLC0415 - needs rich, and who calls this has looked for it

    report, out = together(chosen.reports), look.console()
    look.show_machine(out, report.machine, runs=report.runs, smoke=report.smoke)
    for figure in report.figures:
        look.show_figure(out, figure)
    look.show_verdict(out, report)
    hand_over(report, chosen)
    return 0


def together(reports: Sequence[Report]) -> Report:
    """One report of all their figures; of a figure that is in several, the last one counts."""
    figures = {figure.name: figure for report in reports for figure in report.figures}
    return replace(
        reports[0],
        runs=min(report.runs for report in reports),
        smoke=any(report.smoke for report in reports),
        figures=list(figures.values()),
    )

"""The command line: ``python -m millstream.bench histories``. Exit code 1 if anything is wrong, 2 if it can't begin."""

from __future__ import annotations

import argparse

from millstream.bench.arguments import count
from millstream.bench.proofs.command import begin, end, parsed, parser, seconds
from millstream.bench.proofs.histories.places import Store
from millstream.bench.proofs.histories.run import Histories, run

__all__ = ["main", "options"]

_SECONDS, _CLIENTS, _CRASHES = 60.0, 24, 30


def main(options: argparse.Namespace) -> int:
    """Run what the options ask for, show it, and return the exit code. Needs rich."""
    from millstream.bench import report as look  # noqa: PLC0415 - needs rich, and who calls this has seen that it is there
    from millstream.bench.proofs.histories.show import show_tally, so_far  # noqa: PLC0415 - the same
    from millstream.bench.proofs.show import progress  # noqa: PLC0415 - the same

    begin(options)
    histories = Histories(
        seconds=options.seconds,
        clients=options.clients,
        crashes=options.crashes,
        seed=options.seed,
        directory=options.dir,
        replica=options.replica,
        tokens=not options.without_tokens,
        begins_in_format_1=options.format_1,
        failovers=None if options.failovers is None else Store(options.failovers),
    )
    out = look.console()
    beside = ", a standby" if histories.failovers else ", a replica" if histories.replica else ""
    what = f"{histories.clients} clients{beside}, {histories.crashes} crashes"
    on = " on a log of 0.1" if histories.begins_in_format_1 else ""
    on = on if histories.failovers is None else f" on {histories.failovers}"
    out.print(f"{what} in {histories.seconds:g} s{on}, seed {histories.seed}")
    with progress(out, "crashes", histories.crashes + 1, so_far) as tell:
        tally = run(histories, tell)
    show_tally(out, tally)
    return end(tally, options)


def options(arguments: list[str]) -> argparse.Namespace:
    """What the arguments say. A wrong one ends the program."""
    made = parser("histories", "kills servers under many clients: is what these were answered linearizable?")
    made.add_argument(
        "--seconds",
        type=seconds,
        default=_SECONDS,
        metavar="S",
        help=f"clients work at least so long; restarts take their time beside that; default: {_SECONDS:g}",
    )
    made.add_argument("--clients", type=count, default=_CLIENTS, metavar="N", help=f"default: {_CLIENTS}")
    made.add_argument(
        "--crashes",
        type=count,
        default=_CRASHES,
        metavar="N",
        help=f"in one of four a process is killed twice, in some both processes are; default: {_CRASHES}",
    )
    made.add_argument("--replica", action="store_true", help="a replica answers too, and forwards commands")
    made.add_argument("--without-tokens", action="store_true", help="ask without, to see that stale answers are found")
    made.add_argument("--format-1", action="store_true", help="the log begins in the format of millstream 0.1")
    made.add_argument(
        "--failovers",
        choices=[*Store],
        help="two processes, of which one takes over, on SQLite or in a PostgreSQL server that is made for it",
    )
    found = parsed(made, arguments)
    if found.failovers and (found.replica or found.format_1):
        made.error("--failovers goes with neither --replica nor --format-1")
    return found

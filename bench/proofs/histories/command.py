"""The command line: ``python -m millstream.bench histories``. Exit code 1 if anything is wrong, 2 if it can't begin."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from random import SystemRandom

import msgspec
import structlog

from millstream.bench.proofs.histories.run import Histories, run

__all__ = ["main", "options"]

_SECONDS, _CLIENTS, _CRASHES, _SEED_MAX = 60.0, 24, 30, 10**6


def main(options: argparse.Namespace) -> int:
    """Run what the options ask for, show it, and return the exit code. Needs rich."""
    from millstream.bench import report as look  # noqa: PLC0415 - needs rich, and who calls this has seen that it is there
    from millstream.bench.proofs.histories.show import progress, show_tally  # noqa: PLC0415 - the same

    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    Path(options.dir).mkdir(parents=True, exist_ok=True)
    histories = Histories(
        seconds=options.seconds,
        clients=options.clients,
        crashes=options.crashes,
        seed=options.seed,
        directory=options.dir,
        replica=options.replica,
        tokens=not options.without_tokens,
    )
    out = look.console()
    what = f"{histories.clients} clients{', a replica' if histories.replica else ''}, {histories.crashes} crashes"
    out.print(f"{what} in {histories.seconds:g} s, seed {histories.seed}")
    with progress(out, histories) as tell:
        tally = run(histories, tell)
    show_tally(out, tally)
    if options.json:
        Path(options.json).write_bytes(msgspec.json.format(msgspec.json.encode(tally), indent=2) + b"\n")
    return 1 if tally.wrong else 0


def options(arguments: list[str]) -> argparse.Namespace:
    """What the arguments say; the seed is chosen here if they name none. A wrong one ends the program."""
    parser = argparse.ArgumentParser(
        prog="python -m millstream.bench histories",
        description="kills servers under many clients: is what these were told linearizable?",
    )
    parser.add_argument("--seconds", type=_seconds, default=_SECONDS, metavar="S", help=f"default: {_SECONDS:g}")
    parser.add_argument("--clients", type=_count, default=_CLIENTS, metavar="N", help=f"default: {_CLIENTS}")
    parser.add_argument("--crashes", type=_count, default=_CRASHES, metavar="N", help=f"default: {_CRASHES}")
    parser.add_argument("--replica", action="store_true", help="a replica answers too, and forwards commands")
    parser.add_argument(
        "--without-tokens", action="store_true", help="ask without, to see that stale answers are found"
    )
    parser.add_argument("--seed", type=int, metavar="S", help="of the plan; default: another one each time")
    parser.add_argument("--json", metavar="PATH", help="write the figures there, too")
    parser.add_argument("--dir", metavar="PATH", default="out", help="where files go, on a real disk; default: out")
    found = parser.parse_args(arguments)
    if found.seed is None:
        found.seed = SystemRandom().randrange(_SEED_MAX)
    return found


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number from 1 on, not {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"a number of seconds, not {text!r}")
    return seconds

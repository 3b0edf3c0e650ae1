"""The command line: ``python -m millstream.bench torture``. Exit code 1 if anything is wrong, 2 if it can't begin."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from random import SystemRandom

import msgspec
import structlog

from millstream.bench.proofs.torture.run import Tally, Torture, run

__all__ = ["main", "options"]

_KILLS, _IMAGES, _CALLERS, _SEED_MAX = 100, 100, 100, 10**6


def main(options: argparse.Namespace) -> int:
    """Run what the options ask for, show it, and return the exit code. Needs rich."""
    from millstream.bench import report as look  # noqa: PLC0415 - needs rich, and who calls this has seen that it is there
    from millstream.bench.proofs.torture.show import progress, show_tally  # noqa: PLC0415 - the same

    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    Path(options.dir).mkdir(parents=True, exist_ok=True)
    torture = Torture(
        kills=options.kills, images=options.images, callers=options.callers, seed=options.seed, directory=options.dir
    )
    out = look.console()
    out.print(f"{torture.kills} kills, {torture.images} images, {torture.callers} callers, seed {torture.seed}")
    with progress(out, torture) as tell:
        tally = run(torture, tell)
    show_tally(out, tally)
    if options.json:
        _write(tally, Path(options.json))
    return 1 if tally.wrong else 0


def _write(tally: Tally, path: Path) -> None:
    path.write_bytes(msgspec.json.format(msgspec.json.encode(tally), indent=2) + b"\n")


def options(arguments: list[str]) -> argparse.Namespace:
    """What the arguments say; the seed is chosen here if they name none. A wrong one ends the program."""
    parser = argparse.ArgumentParser(
        prog="python -m millstream.bench torture", description="kills processes and tears files: is anything lost?"
    )
    parser.add_argument("--kills", type=_count, default=_KILLS, metavar="N", help=f"default: {_KILLS}")
    parser.add_argument("--images", type=_count, default=_IMAGES, metavar="N", help=f"default: {_IMAGES}")
    parser.add_argument("--callers", type=_count, default=_CALLERS, metavar="N", help=f"default: {_CALLERS}")
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

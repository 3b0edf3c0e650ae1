"""What the command lines of proofs share: seed, files, and how a run is begun and its report written."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from random import SystemRandom

import msgspec
import structlog

from millstream.bench.proofs.problems import Verdict

__all__ = ["begin", "end", "parsed", "parser", "seconds"]

_SEED_MAX = 10**6


def parser(name: str, description: str) -> argparse.ArgumentParser:
    """The options of every proof; each adds its own."""
    made = argparse.ArgumentParser(prog=f"python -m millstream.bench {name}", description=description)
    made.add_argument("--seed", type=int, metavar="S", help="of the plan; default: another one each time")
    made.add_argument("--json", metavar="PATH", help="write the figures there, too")
    made.add_argument("--dir", metavar="PATH", default="out", help="where files go, on a real disk; default: out")
    return made


def parsed(made: argparse.ArgumentParser, arguments: list[str]) -> argparse.Namespace:
    """What the arguments say; the seed is chosen here if they name none. A wrong one ends the program."""
    found = made.parse_args(arguments)
    if found.seed is None:
        found.seed = SystemRandom().randrange(_SEED_MAX)
    return found


def begin(options: argparse.Namespace) -> None:
    """Make the folder, and let the engine's lines about what is done to it go unseen."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    Path(options.dir).mkdir(parents=True, exist_ok=True)


def end(verdict: Verdict, options: argparse.Namespace) -> int:
    """Write the report where it is wanted. Returns the exit code: 1 if anything is wrong."""
    if options.json:
        Path(options.json).write_bytes(msgspec.json.format(msgspec.json.encode(verdict), indent=2) + b"\n")
    return 1 if verdict.wrong else 0


def seconds(text: str) -> float:
    """An argument that is a number of seconds.

    Raises:
        argparse.ArgumentTypeError: it is none, negative, or without end.
    """
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found < float("inf"):
        raise argparse.ArgumentTypeError(f"a number of seconds, not {text!r}")
    return found

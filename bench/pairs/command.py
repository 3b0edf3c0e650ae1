"""The command line: ``millstream bench compare OLD NEW``.

Exit code 0 if NEW is within the bound in each workload, 1 if it is slower in one or the run can't tell, 2 if it can't
begin.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from millstream.bench import loops
from millstream.bench.arguments import count
from millstream.bench.job import BenchError
from millstream.bench.pairs.ratios import PAIRS_MIN, Result, result_of
from millstream.bench.pairs.run import Contender, measure
from millstream.bench.pairs.work import WORKLOADS

__all__ = ["main", "options"]

#: Of what a run that counts does: just enough to see that it runs.
_SMOKE_SHARE = 40


def options(arguments: list[str]) -> argparse.Namespace:
    """What the arguments say; ends the program when they are wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m millstream.bench compare",
        description="run two versions of the engine in pairs: does the new one need more of the loop?",
    )
    parser.add_argument("old", metavar="OLD", help="a folder with a checkout, or a commit of the one you stand in")
    parser.add_argument("new", metavar="NEW", help="the same, also the same one: with other limits")
    parser.add_argument("--only", nargs="+", choices=list(WORKLOADS), default=list(WORKLOADS), help="default: all")
    parser.add_argument("--pairs", type=count, default=PAIRS_MIN, metavar="N", help=f"default: {PAIRS_MIN}")
    parser.add_argument("--loop", choices=loops.available(), default="asyncio", help="default: asyncio")
    for side in ("old", "new"):
        parser.add_argument(
            f"--{side}-limit",
            action="append",
            type=_limit,
            default=[],
            metavar="NAME=VALUE",
            help=f"one of the engine's limits, for {side.upper()}; as often as you like",
        )
    parser.add_argument("--smoke", action="store_true", help="one pair of tiny runs: does it run?")
    parser.add_argument("--json", metavar="PATH", type=Path, help="write all runs there, too")
    found = parser.parse_args(arguments)
    if found.smoke:
        found.pairs = 1
    return found


def main(options: argparse.Namespace) -> int:
    """Compare, show it, and return the exit code. Needs rich."""
    from millstream.bench import report as look  # noqa: PLC0415 - needs rich, and who calls this has seen that it is there
    from millstream.bench.pairs.show import show_results  # noqa: PLC0415 - the same

    out = look.console()
    try:
        with TemporaryDirectory(prefix="pairs-") as base, out.status("") as status:
            old = Contender(options.old, Path(base, "old"), dict(options.old_limit))
            new = Contender(options.new, Path(base, "new"), dict(options.new_limit))
            results = [_result(name, old, new, options, status.update) for name in options.only]
    except BenchError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    show_results(out, results)
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=2) + b"\n")
    if options.smoke:
        return 0
    return 0 if all(result.verdict == "within the bound" for result in results) else 1


def _result(
    name: str, old: Contender, new: Contender, options: argparse.Namespace, say: Callable[[str], None]
) -> Result:
    size = WORKLOADS[name][1] // (_SMOKE_SHARE if options.smoke else 1)
    pairs = measure(
        old,
        new,
        name,
        count=size,
        pairs=options.pairs,
        loop=options.loop,
        tell=lambda done: say(f"{name}: {done} of {options.pairs} pairs"),
    )
    return result_of(name, size, pairs)


def _limit(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        number = float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"a limit's name and a number, like slice_ms_max=0.5, not {text!r}") from None
    return name, int(number) if number.is_integer() else number

"""The command line: ``python -m millstream.bench torture``. Exit code 1 if anything is wrong, 2 if it can't begin."""

from __future__ import annotations

import argparse

from millstream.bench.arguments import count
from millstream.bench.proofs.command import begin, end, parsed, parser
from millstream.bench.proofs.torture.run import Torture, run

__all__ = ["main", "options"]

_KILLS, _IMAGES, _CALLERS = 100, 100, 100


def main(options: argparse.Namespace) -> int:
    """Run what the options ask for, show it, and return the exit code. Needs rich."""
    from millstream.bench import report as look  # noqa: PLC0415 - needs rich, and who calls this has seen that it is there
    from millstream.bench.proofs.show import progress  # noqa: PLC0415 - the same
    from millstream.bench.proofs.torture.show import show_tally, so_far  # noqa: PLC0415 - the same

    begin(options)
    torture = Torture(
        kills=options.kills,
        images=options.images,
        callers=options.callers,
        seed=options.seed,
        directory=options.dir,
        begins_in_format_1=options.format_1,
    )
    out = look.console()
    out.print(f"{torture.kills} kills, {torture.images} images, {torture.callers} callers, seed {torture.seed}")
    with progress(out, "kills", torture.kills, so_far) as tell:
        tally = run(torture, tell)
    show_tally(out, tally)
    return end(tally, options)


def options(arguments: list[str]) -> argparse.Namespace:
    """What the arguments say. A wrong one ends the program."""
    made = parser("torture", "kills processes and tears files: is anything lost?")
    made.add_argument("--kills", type=count, default=_KILLS, metavar="N", help=f"default: {_KILLS}")
    made.add_argument("--images", type=count, default=_IMAGES, metavar="N", help=f"default: {_IMAGES}")
    made.add_argument("--callers", type=count, default=_CALLERS, metavar="N", help=f"default: {_CALLERS}")
    made.add_argument("--format-1", action="store_true", help="each log begins in the format of millstream 0.1")
    return parsed(made, arguments)

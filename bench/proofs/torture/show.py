"""How a torture looks in a terminal. Needs rich, the extra ``millstream[bench]``."""

from __future__ import annotations

from rich.console import Console

from millstream.bench.proofs.show import show_verdict, table
from millstream.bench.proofs.torture.run import Tally

__all__ = ["show_tally", "so_far"]


def so_far(tally: Tally) -> tuple[int, str]:
    """The kills, and words about what was done meanwhile."""
    return tally.kills, f"{tally.images} images, {tally.acknowledged:,} commands acknowledged, {tally.wrong} wrong"


def show_tally(out: Console, tally: Tally) -> None:
    """What was done and what was found; if something is wrong, what, and where the evidence lies."""
    out.print(table("torture", _columns(tally), bad=("lost", "doubled", "misplaced", "otherwise wrong")))
    if tally.images_refused:
        out.print(f"[dim]{tally.images_refused} images, torn as no crash tears, were refused with a typed error.[/]")
    show_verdict(out, tally, "Nothing that was acknowledged is lost.")


def _columns(tally: Tally) -> list[tuple[str, str]]:
    return [
        ("kills", f"{tally.kills:,}"),
        ("images", f"{tally.images:,}"),
        ("acknowledged", f"{tally.acknowledged:,}"),
        ("sent again", f"{tally.repeated:,}"),
        ("effects", f"{tally.effects:,}"),
        ("performed again", f"{tally.effects_again:,}"),
        ("lost", f"{tally.lost:,}"),
        ("doubled", f"{tally.doubled:,}"),
        ("misplaced", f"{tally.misplaced:,}"),
        ("otherwise wrong", f"{tally.otherwise:,}"),
        ("seconds", f"{tally.seconds:.1f}"),
        ("seed", str(tally.seed)),
    ]

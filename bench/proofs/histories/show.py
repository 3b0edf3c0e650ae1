"""How a run of histories looks in a terminal. Needs rich, the extra ``millstream[bench]``."""

from __future__ import annotations

from rich.console import Console

from millstream.bench.proofs.histories.run import Tally
from millstream.bench.proofs.show import show_verdict, table

__all__ = ["show_tally", "so_far"]


def so_far(tally: Tally) -> tuple[None, str]:
    """One more crash, and words about what was done meanwhile."""
    return None, f"{tally.operations:,} operations, {tally.kills} kills"


def show_tally(out: Console, tally: Tally) -> None:
    """What was done and what was found; if something is wrong, what, and where the evidence lies."""
    done = [
        ("clients", f"{tally.clients:,}"),
        ("kills", f"{tally.kills:,}"),
        *([("replaced", f"{tally.replaced:,}")] if tally.replaced else []),
        ("operations", f"{tally.operations:,}"),
        ("accepted", f"{tally.accepted:,}"),
        ("refused", f"{tally.refused:,}"),
        ("answers", f"{tally.answers:,}"),
        ("denied", f"{tally.denied:,}"),
        ("left open", f"{tally.left_open:,}"),
        ("sent again", f"{tally.repeated:,}"),
        *([("sent again, of 0.1", f"{tally.older_repeated:,}")] if tally.older else []),
        ("seconds", f"{tally.seconds:.1f}"),
    ]
    found = [
        ("accounts", f"{tally.accounts:,}"),
        ("linearizable", f"{tally.linearizable:,}"),
        ("violations", f"{tally.violations:,}"),
        ("undecided", f"{tally.undecided:,}"),
        ("not as the log says", f"{tally.misplaced:,}"),
        ("otherwise wrong", f"{tally.otherwise:,}"),
        ("seconds of checking", f"{tally.checking_seconds:.1f}"),
        ("seed", str(tally.seed)),
    ]
    out.print(table("histories", done))
    out.print(table("verdicts", found))
    if tally.errors:
        out.print(f"[dim]errors: {', '.join(f'{count:,} {name}' for name, count in tally.errors.items())}[/]")
    show_verdict(out, tally, "Every history is linearizable.")

"""Which snapshots of a part are kept, beside the latest one.

Here: a choice, and nothing else. Not here: what a snapshot is worth (`catalog`).

    whose                         how many are kept
    -----                         -----------------
    the code that takes one       so many, spread over the past: the further back, the further apart
    the code with the next one    all that there are: two may take turns, in a deployment
    a third code                  the latest: one may be made in advance while a second was rolled back
    any other                     none
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import inf

from millstream.engine.snapshots.part import Snapshot
from millstream.engine.snapshots.shape import fits

__all__ = ["spare"]


def spare(kept: Sequence[Snapshot], fingerprint: str, most: int, useless: Collection[bytes] = ()) -> list[Snapshot]:
    """Those that are not to be kept.

    Args:
        kept: all of one part, the latest first.
        fingerprint: that of the one that was just taken.
        most: how many to keep of those that fit it.
        useless: the checksums of those that are none of any use.
    """
    same = [each for each in kept if fits(each.fingerprint, fingerprint) and each.checksum not in useless]
    others = [each for each in kept if not fits(each.fingerprint, fingerprint) and each.checksum not in useless]
    stay = _spread(_one_a_commit(same), most)
    stay += [each for each in others if fits(each.fingerprint, others[0].fingerprint)]
    stay += [each for each in others if each not in stay][:1]
    return [each for each in kept if each not in stay]


def _one_a_commit(same: Sequence[Snapshot]) -> list[Snapshot]:
    """The one of each commit that was finished last: what was parked may have been tried again since another."""
    by_number: dict[int, Snapshot] = {}
    for each in same:
        by_number.setdefault(each.head.number, each)
    return list(by_number.values())


def _spread(same: list[Snapshot], most: int) -> list[Snapshot]:
    """At most so many, of which the latest is one. The first to go is the one whose neighbours' ages are nearest in
    proportion: to come from the older one to what it was good for is then not much more than that is old.
    """
    while len(same) > most:
        now = same[0].head.position
        ages = [*(now - each.head.position for each in same), now]  # the last is that of the log's beginning
        ratios = [older / younger if younger else inf for younger, older in zip(ages, ages[2:], strict=False)]
        del same[1 + ratios.index(min(ratios))]
    return same

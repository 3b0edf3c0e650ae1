"""Python's cyclic garbage collector: what keeps it from walking over states for nothing."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["collecting_young_only", "frozen"]

#: As thresholds of the older generations: none of them is ever collected by itself.
_NEVER = (2**31 - 1, 2**31 - 1)


@contextmanager
def frozen() -> Iterator[None]:
    """Let the collector never look at what is made in this block, nor at anything that is alive when it ends.

    It is switched off meanwhile, in the whole process, and is afterwards what it was before.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()


@contextmanager
def collecting_young_only() -> Iterator[None]:
    """Keep the garbage collector from walking over a second state that is dropped anyway.

    It would take the new objects for a reason to look at all there are: 0.6 s in three stalls of the loop, where
    300,000 Structs with a list each are in a model and a view. What dies young is collected as ever.
    """
    before = gc.get_threshold()
    gc.set_threshold(before[0], *_NEVER)
    meanwhile = gc.get_threshold()
    try:
        yield
    finally:
        if gc.get_threshold() == meanwhile:  # else the program has decided otherwise
            gc.set_threshold(*before)

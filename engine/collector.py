"""Python's cyclic garbage collector, for programs that told the engine to keep it from walking over its state."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["frozen"]


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

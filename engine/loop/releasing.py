"""Emptying a state in steps, because the interpreter frees a million entries in one go, and no task runs meanwhile.

Here: one plain function. Not here: who rests between its steps (`recovery`).
"""

from __future__ import annotations

import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["drained"]

_AT_ONCE = 256
_COLLECTIONS = (dict, list, set, deque, OrderedDict, defaultdict, Counter)


def drained(state: object) -> Iterator[None]:
    """Empty the collections of a state that is not needed any more, a little at each step.

    One that is held elsewhere, too, is left as it is: it may be a constant of the application. A state that holds large
    things which are no collections of Python's own has a method ``__drained__``, an iterator of such steps.
    """
    for name in _attributes(state):
        value: Any = getattr(state, name, None)
        if type(value) not in _COLLECTIONS or _holders(state, name) > _ALONE:
            continue
        while value:
            _shorten(value)
            yield
        value.clear()  # its table: 44 MB for a million entries, which take 3 ms to give back
        yield
    own: Callable[[], Iterator[None]] | None = getattr(state, "__drained__", None)
    if own is not None:
        yield from own()


def _shorten(value: Any) -> None:
    if isinstance(value, list):
        del value[-_AT_ONCE:]
        return
    pop = value.popitem if isinstance(value, dict) else value.pop
    for _ in range(min(len(value), _AT_ONCE)):
        pop()


def _attributes(state: object) -> Iterator[str]:
    for cls in type(state).__mro__:
        slots = vars(cls).get("__slots__", ())
        yield from (slots,) if isinstance(slots, str) else slots
    yield from list(getattr(state, "__dict__", ()))


def _holders(owner: object, name: str) -> int:
    """How many hold an attribute's value, as CPython counts them here."""
    return sys.getrefcount(getattr(owner, name))


class _Probe:
    def __init__(self) -> None:
        self.alone: list[int] = []


def _held_once() -> int:
    probe = _Probe()
    value = probe.alone  # as `drained` holds it
    count = _holders(probe, "alone")
    del value
    return count


_ALONE = _held_once()

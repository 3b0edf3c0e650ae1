"""A handler that never stops yielding is stopped at the bound of what one command may yield, while it yields.

Here: which handlers could go on without an end, and counting what these yield. Not here: the bound itself, which the
kernel holds every command to once its handler has ended (`kernel`).

Invariant: of a handler that goes on and on, no more is kept than ``commit_bytes_max`` and a few events.
"""

from __future__ import annotations

import dis
import inspect
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any
from weakref import WeakKeyDictionary

from millstream.engine.application.interrupts import INTERRUPTS
from millstream.engine.errors import CommitTooLarge, ImpureHandler

__all__ = ["bounded", "may_go_on"]

#: How many events are taken before the first look at how many bytes they are, and at most between two of them.
_FIRST = 8
_AT_ONCE = 64

_JUMPS = frozenset((*dis.hasjrel, *dis.hasjabs))
#: By handler, as its text does not change: to read one takes 0.3 ms, and each state of the writer asks for all.
_known: WeakKeyDictionary[Callable[..., Any], bool] = WeakKeyDictionary()


def may_go_on(function: Callable[..., Any]) -> bool:
    """Whether the text of a handler leaves open how many events it yields.

    A generator that has no loop and yields from no other ends by itself. Most handlers are like this, and need
    no counting, which would be 0.5 µs for each command.
    """
    if not inspect.isfunction(function) or not inspect.isgeneratorfunction(function):
        return True
    found = _known.get(function)
    if found is None:
        found = _known[function] = any(
            each.opname == "GET_YIELD_FROM_ITER" or (each.opcode in _JUMPS and each.argval <= each.offset)
            for each in dis.get_instructions(function)
        )
    return found


def bounded(
    handler: Callable[..., Iterable[Any]],
    command: str,
    encode: Callable[[list[Any]], bytes],
    commit_bytes_max: int,
) -> Callable[..., Iterable[Any]]:
    """The handler, stopped with `CommitTooLarge` when it has yielded more than a commit may hold.

    Args:
        handler: yields events, or gives back some.
        command: its name, for the error.
        encode: the JSON of events.
        commit_bytes_max: the bound.
    """

    def stopping(*arguments: Any) -> Iterable[Any]:
        made = handler(*arguments)
        if made.__class__ is list or made.__class__ is tuple:
            return made
        made = iter(made)
        some: list[Any] = []
        try:
            some += islice(made, _FIRST)
        except BaseException as error:  # noqa: BLE001 - raised when what came before it has been taken
            return _then(some, error)
        return some if len(some) < _FIRST else _counted(some, made, command, encode, commit_bytes_max)

    return stopping


def _then(some: list[Any], error: BaseException) -> Iterator[Any]:
    """What was yielded before an error may be what is wrong."""
    yield from some
    raise error


def _counted(
    some: list[Any], made: Iterator[Any], command: str, encode: Callable[[list[Any]], bytes], commit_bytes_max: int
) -> Iterator[Any]:
    size, taken = 0, 0
    while some:
        yield from some
        size += len(encode(some))
        taken += len(some)
        if size > commit_bytes_max:
            _close(made, error := CommitTooLarge(command, size, commit_bytes_max))
            raise error
        some = []
        try:
            room = (commit_bytes_max - size) * taken // size  # for so many of those that came so far
            some += islice(made, max(1, min(_AT_ONCE, room)))
        except BaseException as error:  # noqa: BLE001 - raised when what came before it has been taken
            yield from _then(some, error)


def _close(made: Iterator[Any], error: CommitTooLarge) -> None:
    """End a handler in the middle. What it raises then is the cause of the error, as it changes nothing any more; but
    for what damaged the state, and what ends the program.
    """
    close = getattr(made, "close", None)
    if close is None:
        return
    try:
        close()
    except (ImpureHandler, *INTERRUPTS):
        raise
    except BaseException as problem:  # noqa: BLE001 - kept as the cause
        error.__cause__ = problem

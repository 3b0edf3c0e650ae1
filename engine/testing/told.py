"""What a scenario tells of a difference, and of what has failed.

Here: texts. Not here: what is expected, and when (`scenario`).
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import ndiff
from typing import Any

from millstream.engine.errors.said import said_by, told_of
from millstream.engine.write.entries import AgendaEntry

__all__ = ["of_the_application", "require_equal", "said_of", "why_parked"]


def require_equal(what: str, expected: list[Any], found: list[Any], beside: str = "") -> None:
    """See that two lists are equal.

    Raises:
        AssertionError: they are not; shows the difference, item by item, and ``beside``.
    """
    __tracebackhide__ = True
    if expected == found:
        return
    lines = ndiff([*map(repr, expected)], [*map(repr, found)])
    shown = "".join(f"\n  {line.rstrip()}" for line in lines)
    raise AssertionError(f"{what} is not what was expected (- is missing, + is there):{shown}{beside}")


def why_parked(entry: AgendaEntry, faults: Sequence[BaseException]) -> BaseException | str:
    """The error that an entry is parked with, or what the log says of it. Some faults have parked nothing."""
    for error in faults:
        if told_of(error) == (entry.error, entry.text):
            return error
    inside = (error for error in faults if said_by(error) in entry.text)
    return next(inside, f"{entry.error}: {entry.text}")


def said_of(why: BaseException | str) -> str:
    """The same as a text."""
    return why if isinstance(why, str) else said_by(why)


def of_the_application(error: BaseException) -> BaseException:
    """The error, with a traceback that begins in the application's code, as far as there is some in it."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith("millstream.engine."):
        trace = trace.tb_next
    if error.__cause__ is not None:
        of_the_application(error.__cause__)
    return error if trace is None else error.with_traceback(trace)

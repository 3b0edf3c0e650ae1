"""What code of the application may raise, and which of that is its fault.

Whatever it raises is a fault of the application: a refusal, a fault of a view, a failed answer; also what is no
`Exception`, such as a test framework's failure, or a ``CancelledError`` that a handler raises itself. Two are not: they
mean that the program is to end.
"""

from __future__ import annotations

__all__ = ["INTERRUPTS", "Interrupted"]

#: Raised on as they are.
INTERRUPTS = (KeyboardInterrupt, SystemExit)


class Interrupted(Exception):
    """An actor was ended by one of `INTERRUPTS`, its cause, which closing raises.

    A task that raised that one itself would end the loop at once, with no caller answered.
    """

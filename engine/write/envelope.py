"""A command on its way to the writer, and what its outcome is given to."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

from millstream.engine.application.messages import Command
from millstream.engine.application.options import Terms

__all__ = ["Envelope", "Promise"]


class Promise(Protocol):
    """What a command's outcome is given to, once: an asyncio.Future, or the reply to a socket request."""

    def done(self) -> bool: ...
    def set_result(self, result: Any, /) -> None: ...
    def set_exception(self, exception: BaseException, /) -> None: ...


#: A command on its way: who waits for it, the command, and its terms.
#: A plain tuple: a class of our own costs 0.12 µs more per command.
Envelope: TypeAlias = tuple[Promise, Command, Terms | None]

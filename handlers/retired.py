"""Retired events and commands: what older versions of an application stored, and what it means today."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias, Union, dataclass_transform

import msgspec

from millstream.engine.application.messages import Command, Event

__all__ = ["Retired"]

_Upcast: TypeAlias = Union[Event, Command, "Retired"]


@dataclass_transform(frozen_default=True, field_specifiers=(msgspec.field,))
class Retired(msgspec.Struct, frozen=True, tag=True, tag_field="type", gc=False):
    """The base of classes that describe an event, or a timer's command, as it was stored once. Listed in
    ``App(retired=…)``.

    Its tag is the one in the log: the class name, unless the class says ``tag="…"``. Today's event of that name then
    needs a tag of its own. Only the fields that `upcast` needs must be there; others are passed over.

        class DepositedEuros(Retired, tag="Deposited"):
            account: Key
            amount: int

            def upcast(self) -> Iterator[Event]:
                yield Deposited(self.account, self.amount * 100)

    A timer keeps its command as it was when it was set. The annotation of ``upcast`` says which of the two it is:
    ``-> Iterator[Release]`` is a command, and yields one, or none.
    """

    def upcast(self) -> Iterable[_Upcast]:
        """What it means today: events, or retired ones that are upcast in turn, in order. None at all by default.

        Must be pure: it runs at every replay. The log is not changed.
        """
        return ()

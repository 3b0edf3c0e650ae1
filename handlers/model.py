"""Write models: the state that decides, and the two kinds of methods that it has.

A handler is pure: it reads the state and the command, and yields events or raises `Rejected`. Only the methods that
apply events change the state. That is what makes a replay give the same state, and a preview possible.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, TypeVar, cast

import msgspec

from millstream.engine.application.known_state import require_known_state
from millstream.engine.application.messages import Command, Event
from millstream.engine.application.methods import Method, ReactionMethod, declared, declared_reactions, mark
from millstream.engine.application.schedules import Timing
from millstream.engine.snapshots.exact import require_storable
from millstream.engine.snapshots.pieces import add_piece, pieces_of

__all__ = ["WriteModel", "handles"]

Handles = TypeVar("Handles", bound=Callable[..., Iterable[Event | Timing]])


def handles(method: Handles) -> Handles:
    """Mark a method as the one that decides one type of command.

    ``def deposit(self, command: Deposit) -> Iterator[Event]``, with a `Context` as an optional second parameter. It
    must be pure: no I/O, no clock, no randomness, and no change of state. What it yields is applied when it is done,
    all or nothing; raising `Rejected` at any point yields nothing. A handler that says
    ``-> Iterator[Event | Schedule | Unschedule]``, or ``-> Decision``, may yield timers, too.
    """
    return cast(Handles, mark(method, "handles"))


class WriteModel(msgspec.Struct):
    """The base of write models: a msgspec Struct in which every field has a default.

    One command is decided at a time, on the whole state: any rule across keys is just code. Fields may be changed by
    methods with ``@applies``, and by nothing else.

    Raises (when the class is made):
        DefinitionError: a decorated method has no usable annotation, two are for the same message, or the class has a
            state beside its fields: an annotated attribute of a mixin that is no Struct, a dict or the like without an
            annotation, or ``dict=True``.
    """

    __handlers__: ClassVar[Mapping[type[Any], Method]] = {}
    __appliers__: ClassVar[Mapping[type[Any], Method]] = {}
    __reactions__: ClassVar[tuple[ReactionMethod, ...]] = ()
    #: Raise it when the same events lead to another state than before: snapshots of the old one are then set aside.
    code_version: ClassVar[int] = 1

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        require_known_state(cls)
        cls.__handlers__ = declared(cls, "handles", Command, more="context")
        cls.__appliers__ = declared(cls, "applies", Event, more="about")
        cls.__reactions__ = declared_reactions(cls)

    @classmethod
    def __checked__(cls) -> None:
        """What an `App` sees to: that no field is a collection that a snapshot can't give back.

        Raises:
            DefinitionError: one is, and the class does not override `snapshot`.
        """
        if cls.snapshot is WriteModel.snapshot:
            require_storable(cls)

    def snapshot(self) -> Iterator[bytes] | None:
        """The state in pieces, each made when it is asked for, while nothing else changes the state.

        Override it together with `restore` where a field holds what msgspec can't encode, or return None to have no
        snapshots: the state is then made from the log at each opening.
        """
        return pieces_of(self)

    def restore(self, piece: bytes) -> None:
        """Take up the next piece of a snapshot, on a fresh instance, in the order in which they were made."""
        add_piece(self, piece)

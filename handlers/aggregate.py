"""Aggregates: the part of the write side under one key, as a class of its own.

Where a rule concerns one key alone, its handler need not look that key up: it sees the key's own state and no other. A
rule over several keys belongs into a `WriteModel`; an application may have both.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import msgspec

from millstream.engine.application.known_state import require_known_state
from millstream.engine.application.messages import Command, Event
from millstream.engine.application.methods import Method, ReactionMethod, declared, declared_reactions, place_of
from millstream.engine.errors import DefinitionError
from millstream.engine.snapshots.exact import require_storable

__all__ = ["Aggregate"]


class Aggregate(msgspec.Struct):
    """The base of aggregates: a msgspec Struct in which every field has a default, with an instance for each key.

    Each command that it handles and each event that it applies has a `Key`, which says which instance it is for. An
    instance is made when the first event of its key is applied; a command for a key that has none is decided on a new
    one. ``context.version`` says how many events the key has. What a handler yields has the key of its command: another
    is `HandlerFailed`, and nothing of the command is written.

    After an event of a type in ``ends`` the instance is dropped: the next command for its key meets a new one. The
    key's version goes on. Such an event needs no method with ``@applies``.

    Handlers and appliers are those of a `WriteModel`, and as pure. A method with ``@reacts`` sees the instance of its
    event's key. Snapshots hold all instances; so each field is of a
    type that msgspec can store.

    Raises (when the class is made):
        DefinitionError: a decorated method has no usable annotation, two are for the same message, the class has a
            state beside its fields, or ``ends`` names what is no event.
    """

    __handlers__: ClassVar[Mapping[type[Any], Method]] = {}
    __appliers__: ClassVar[Mapping[type[Any], Method]] = {}
    __reactions__: ClassVar[tuple[ReactionMethod, ...]] = ()
    __ends__: ClassVar[frozenset[type[Event]]] = frozenset()
    #: The types of events after which an instance is dropped.
    ends: ClassVar[tuple[type[Event], ...]] = ()
    #: Raise it when the same events lead to another state than before: snapshots of the old one are then set aside.
    code_version: ClassVar[int] = 1

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        require_known_state(cls)
        cls.__handlers__ = declared(cls, "handles", Command, more="context")
        cls.__ends__ = frozenset(_ending(cls))
        cls.__reactions__ = declared_reactions(cls)
        nothing = {event: Method(_nothing, False, None, f"{place_of(cls)}.ends") for event in cls.__ends__}
        cls.__appliers__ = MappingProxyType({**nothing, **declared(cls, "applies", Event, more="about")})

    @classmethod
    def __checked__(cls) -> None:
        """What an `App` sees to: that no field is a collection that a snapshot can't give back.

        Raises:
            DefinitionError: one is.
        """
        require_storable(cls, "let a WriteModel hold it, whose snapshot() can be overridden")


def _nothing(_instance: Any, _event: Any) -> None:
    """How an event is applied that does no more than end an instance."""


def _ending(cls: type[Aggregate]) -> tuple[type[Event], ...]:
    ends: Any = cls.ends
    if not isinstance(ends, tuple):
        raise DefinitionError(f"ends is a tuple of events, as in ends = (Closed,), not {ends!r}", place_of(cls))
    for each in ends:
        if not (isinstance(each, type) and issubclass(each, Event) and each is not Event):
            raise DefinitionError(
                f"ends names events after which an instance goes, and {each!r} is none", place_of(cls)
            )
    return ends

"""The protocols that the engine runs: the write side decides and applies, the read side applies and answers.

`WriteModel`, `Aggregate` and `Retired` of `millstream.handlers` and `millstream.views.View` satisfy them; anything else
that does is as good. A class of either side is constructed without arguments: that is its state before the first event.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Literal, Protocol, TypeAlias, get_type_hints

from millstream.engine.application.messages import Command
from millstream.engine.application.methods import Method, ReactionMethod, pieces_of_first

__all__ = [
    "Poison",
    "ReadSide",
    "RetiredSide",
    "Side",
    "Stored",
    "WriteSide",
    "code_version_of",
    "ends_of",
    "is_keyed",
    "is_of_command",
    "keeps_elsewhere",
    "poison_of",
    "reactions_of",
]

#: What a view does about an event that it can't apply: stop answering; park it, and what follows under the same key;
#: or leave it out.
Poison: TypeAlias = Literal["stop", "park", "skip"]


class Side(Protocol):
    """What both sides are: a state that changes by events only."""

    __appliers__: ClassVar[Mapping[type[Any], Method]]

    def __init__(self) -> None: ...


class Stored(Protocol):
    """A state that can be put aside and taken up again."""

    def snapshot(self) -> Iterator[bytes] | None:
        """The state in pieces of about 64 KiB, each made when it is asked for. None: no snapshots of this one."""
        ...

    def restore(self, piece: bytes) -> None:
        """Take up the next piece of a snapshot, on a fresh instance, in the order in which they were made."""
        ...


class WriteSide(Side, Protocol):
    """The state that decides. Decide: (state, command) → events, pure. Apply: (state, event) → state, in place.

    It is one of two kinds. One instance holds the state of all keys, and is `Stored`, too. Or the class says
    ``__ends__``: then each key has an instance of its own, and the engine puts all of them aside together.
    """

    __handlers__: ClassVar[Mapping[type[Any], Method]]


class ReadSide(Side, Stored, Protocol):
    """A state that answers. Apply: (state, event) → state, in place. Answer: (state, query) → answer, pure."""

    __answerers__: ClassVar[Mapping[type[Any], Method]]


# A class may have a class method ``__checked__``, which an `App` calls: it raises DefinitionError where the class,
# whose fields are known by then, can not be what it says.
#
# A view whose state lies in a database has a class method ``__storage__``, which gives the engine that runs it a
# `ViewStorage`: its one argument says where the log is, None in memory.
#
# Three things that a class may say are no members of the protocols: ``poison = "park"`` and ``code_version = 2`` in the
# body of a class are narrower types, to type checkers, than what another class may say there; and ``__bounds__``, which
# few have.


def code_version_of(side: type[Side]) -> int:
    """The author's number for how the state follows from the events: the class attribute ``code_version``, or else 1.

    Another number makes snapshots taken with this one useless: the state is then made again from the log.
    """
    version: int = getattr(side, "code_version", 1)
    return version


def keeps_elsewhere(view: type[ReadSide]) -> bool:
    """Whether a view's state lies in a database, so that no engine holds it in memory: it has a ``__storage__``."""
    return hasattr(view, "__storage__")


def is_keyed(model: type[Side]) -> bool:
    """Whether each key has an instance of this model."""
    return hasattr(model, "__ends__")


def ends_of(model: type[Side]) -> frozenset[type[Any]]:
    """The types of events after which a keyed model's instance is dropped."""
    return getattr(model, "__ends__", frozenset())


def reactions_of(model: type[WriteSide]) -> tuple[ReactionMethod, ...]:
    """The methods of a model that react to events: its class attribute ``__reactions__``, if it has one."""
    return getattr(model, "__reactions__", ())


def is_of_command(retired: type[RetiredSide]) -> bool:
    """Whether a retired message was a command: the annotation of its ``upcast`` says that it is one today."""
    try:
        returns = get_type_hints(retired.upcast).get("return")
    except NameError:
        return False
    return any(
        isinstance(piece, type)
        and piece is not Command
        and (issubclass(piece, Command) or (piece is not retired and hasattr(piece, "upcast") and is_of_command(piece)))
        for piece in pieces_of_first(returns)
    )


def poison_of(view: type[ReadSide]) -> Poison:
    """What a view does about an event that it can't apply: its class attribute ``poison``, or else ``"stop"``."""
    poison: Poison = getattr(view, "poison", "stop")
    return poison


class RetiredSide(Protocol):
    """An event, or a timer's command, as it was stored once. It is a msgspec Struct, tagged in the field ``type``."""

    def upcast(self) -> Iterable[Any]:
        """What it means today: events, or retired ones again, in order; none if it means nothing any more. Of a command
        one command, or none. Pure.
        """
        ...

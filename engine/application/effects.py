"""What an application does to the outside world: which methods an event is performed by, and the checks of them.

Here: what a method says of itself, the table to look effects up in, and what is wrong with one when its class or the
application is made. Not here: owing one (`write`), and any call of it (`outside`).
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, TypeAlias, Union, get_args, get_origin

import msgspec

from millstream.engine.application.messages import Command, Event, Metadata
from millstream.engine.application.methods import given_name, hints_of, marked, place_of
from millstream.engine.errors import DefinitionError

__all__ = [
    "TERMS",
    "AfterParked",
    "Attempt",
    "EffectEntry",
    "EffectMethod",
    "EffectSide",
    "GaveUp",
    "Terms",
    "declared_effects",
    "effects_in",
    "names_of",
]

#: What becomes of the later ones of a key while one of it is parked: they wait for it, or go on.
AfterParked: TypeAlias = Literal["wait", "pass"]

#: Where the terms of a method are kept.
TERMS = "__millstream_terms__"


class Attempt(msgspec.Struct, frozen=True):
    """One attempt at an effect, for the method that performs it.

    ``id`` is the same for all attempts at it, also after a crash, and that of no other: give it to the outside world as
    its idempotency key. It is made from the digest of the commit that holds the event, so the same position of another
    history, or of a restored backup, has another one. ``number`` is 1, 2, 3 … since the engine was opened, ``position``
    the event's, ``key`` the event's as it was stored, and ``metadata`` the first caller's, whose command led to it.
    """

    id: str
    number: int
    position: int
    key: str | None = None
    metadata: Metadata = Metadata()


class Terms(NamedTuple):
    """How a method wants to be called: see `millstream.handlers.performs`."""

    attempts_max: int = 1
    timeout_seconds: float = 30.0
    concurrency_max: int = 10
    per_second: float | None = None
    backoff_seconds: float = 0.5
    backoff_seconds_max: float = 60.0
    after_parked: AfterParked = "wait"

    def problem(self) -> str | None:
        """What is wrong with them, or None."""
        for name in ("attempts_max", "concurrency_max"):
            number = getattr(self, name)
            if type(number) is not int or number < 1:
                return f"{name} is a number of 1 or more, not {number!r}"
        for name in ("timeout_seconds", "per_second", "backoff_seconds", "backoff_seconds_max"):
            number = getattr(self, name)
            if not (number is None and name == "per_second") and not (type(number) in (int, float) and number > 0):
                return f"{name} is a positive number, not {number!r}"
        if self.after_parked not in get_args(AfterParked):
            return f"after_parked is one of {get_args(AfterParked)}, not {self.after_parked!r}"
        return None


class GaveUp(NamedTuple):
    """What is called when all attempts have failed: the name of the method in its class, and where it is written."""

    attribute: str
    returns: Any
    place: str


class EffectMethod(NamedTuple):
    """A method that performs events of one type: what the log calls it, and its name in its class."""

    name: str
    event: type[Event]
    attribute: str
    wants_attempt: bool
    terms: Terms
    gave_up: GaveUp | None
    returns: Any
    place: str


class EffectSide(Protocol):
    """A class that has such methods."""

    __effects__: ClassVar[tuple[EffectMethod, ...]]


class EffectEntry(NamedTuple):
    """An effect: what the log calls it today, the class that it is of, and its method."""

    name: str
    owner: type[EffectSide]
    method: EffectMethod


def declared_effects(owner: type) -> tuple[EffectMethod, ...]:
    """The methods of ``owner`` that perform events, in the order in which they are written.

    Raises:
        DefinitionError: one is no coroutine function, has no usable annotation, or terms that are none; two are called
            the same; one with ``@gave_up`` has nothing to give up, or there are two for one event.
    """
    ends: dict[type[Event], GaveUp] = {}
    for function in marked(owner, "gave_up"):
        event, returns = _read(function, "gave_up", ("event", "attempt", "problem"), is_async=False)
        ended = GaveUp(function.__name__, returns, place_of(function))
        if event in ends:
            raise DefinitionError(f"{event.__name__} has two @gave_up methods", ends[event].place, ended.place)
        ends[event] = ended
    found: list[EffectMethod] = []
    for function in marked(owner, "performs"):
        place = place_of(function)
        event, returns = _read(function, "performs", ("event", "attempt"), is_async=True)
        terms: Terms = getattr(function, TERMS, Terms())
        if (problem := terms.problem()) is not None:
            raise DefinitionError(problem, place)
        name = given_name(function, f"{owner.__name__}.{function.__name__}")
        wants_attempt = len(inspect.signature(function).parameters) == 3
        method = EffectMethod(name, event, function.__name__, wants_attempt, terms, ends.get(event), returns, place)
        found.append(method)
    for event, gave_up in ends.items():
        if all(method.event is not event for method in found):
            raise DefinitionError(f"nothing is given up for {event.__name__}: no @performs is for it", gave_up.place)
    return tuple(found)


def effects_in(
    owners: Sequence[Any],
    events: Iterable[type[Event]],
    commands: Iterable[type[Command]],
    taken: Mapping[str, str],
) -> dict[type[Event], tuple[EffectEntry, ...]]:
    """By type of event what performs it.

    Args:
        owners: the application's, in its order.
        events: the application's.
        commands: those that it handles.
        taken: names of reactions, with their places.

    Raises:
        DefinitionError: one is no such class; two have one name; one is for an event of which the application knows
            nothing, or returns a command that nothing handles; what it needs is not installed.
    """
    table: dict[type[Event], tuple[EffectEntry, ...]] = {}
    places, known, handled = dict(taken), frozenset(events), frozenset(commands)
    for owner in owners:
        methods: tuple[EffectMethod, ...] = getattr(owner, "__effects__", ())
        if not methods or not isinstance(owner, type):
            raise DefinitionError(f"{owner!r} is no class of effects: give the class, with a method that @performs")
        for method in methods:
            if method.name in places:
                raise DefinitionError(f"two have the name {method.name!r}", places[method.name], method.place)
            places[method.name] = method.place
            _require_sound(method, known, handled)
            table[method.event] = (*table.get(method.event, ()), EffectEntry(method.name, owner, method))
    return table


def names_of(
    effects: Mapping[type[Event], tuple[EffectEntry, ...]], renamed: Mapping[str, str]
) -> dict[str, EffectEntry]:
    """All effects by name, those of once among them: as far as ``renamed`` is of effects.

    Raises:
        DefinitionError: what one was called once, another is called today.
    """
    known = {entry.name: entry for entries in effects.values() for entry in entries}
    for old in renamed.keys() & known.keys():
        raise DefinitionError(f"renamed={{{old!r}: …}}: there is an effect {old!r} today", known[old].method.place)
    return known | {old: known[new] for old, new in renamed.items() if new in known}


def _require_sound(method: EffectMethod, events: frozenset[type[Event]], commands: frozenset[type[Command]]) -> None:
    if method.event not in events:
        raise DefinitionError(
            f"no model yields or applies event {method.event.__name__}, so nothing would ever perform it",
            place_of(method.event),
            method.place,
        )
    ends = () if method.gave_up is None else ((method.gave_up.returns, method.gave_up.place),)
    for returns, place in ((method.returns, method.place), *ends):
        for command in _commands_of(returns):
            if command not in commands:
                raise DefinitionError(f"no model handles command {command.__name__}", place_of(command), place)
    if method.terms.attempts_max > 1 and find_spec("tenacity") is None:
        raise DefinitionError(
            "attempts_max over 1 needs the extra for retries: pip install 'millstream[effects]'", method.place
        )


def _read(
    function: Callable[..., Any], kind: str, names: tuple[str, ...], *, is_async: bool
) -> tuple[type[Event], Any]:
    """The event that a method is for, and what it returns."""
    place = place_of(function)
    if inspect.iscoroutinefunction(function) is not is_async or inspect.isgeneratorfunction(function):
        raise DefinitionError(
            f"an @{kind} method is async def: the outside world takes time"
            if is_async
            else f"an @{kind} method is a plain function: it says what follows, and does nothing",
            place,
        )
    parameters = list(inspect.signature(function).parameters.values())[1:]
    allowed = (len(names), 1) if is_async else (len(names),)
    if len(parameters) not in allowed or any(each.kind > each.POSITIONAL_OR_KEYWORD for each in parameters):
        raise DefinitionError(f"an @{kind} method takes (self, {', '.join(names)})", place)
    hints = hints_of(function)
    event = hints.get(parameters[0].name)
    if not (isinstance(event, type) and issubclass(event, Event) and event is not Event):
        raise DefinitionError(f"an @{kind} method is for one subclass of Event, not for {event!r}", place)
    if "return" not in hints:
        raise DefinitionError(f"an @{kind} method says what it returns: -> None, or the command that follows", place)
    for piece in _pieces(hints["return"]):
        if piece not in (Any, types.NoneType) and not _is_command(piece):
            raise DefinitionError(f"an @{kind} method returns a command or None, not {piece!r}", place)
    return event, hints["return"]


def _pieces(returns: Any) -> Iterator[Any]:
    if get_origin(returns) in (Union, types.UnionType):
        for piece in get_args(returns):
            yield from _pieces(piece)
    else:
        yield returns


def _is_command(piece: Any) -> bool:
    piece = get_origin(piece) or piece
    return isinstance(piece, type) and issubclass(piece, Command)


def _commands_of(returns: Any) -> Iterator[type[Command]]:
    for piece in _pieces(returns):
        command = get_origin(piece) or piece
        if _is_command(command) and command is not Command:
            yield command

"""Which reactions follow an event, and the checks of them that need more than one class.

Here: the table to dispatch with, and circles that can be found when an application is made. Not here: running one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from millstream.engine.application.messages import Command, Event
from millstream.engine.application.methods import Method, key_field, place_of, yielded_by
from millstream.engine.application.sides import WriteSide, is_keyed, reactions_of
from millstream.engine.errors import DefinitionError

__all__ = ["Asking", "ReactionEntry", "by_name", "places_of", "reactions_in"]


class Asking(NamedTuple):
    """What a reaction yields that wants the answer of a command: it is sent the answer, or thrown the refusal."""

    command: Command[Any]


class ReactionEntry(NamedTuple):
    """A reaction: what the log calls it, the model that it is of, by its index, and its method."""

    name: str
    model: int
    method: Method


def reactions_in(
    models: Sequence[type[WriteSide]], handlers: Mapping[type[Command], Method]
) -> dict[type[Event], tuple[ReactionEntry, ...]]:
    """By type of event its reactions, in the order in which they run.

    Args:
        models: the application's, in its order.
        handlers: by type of command what decides it.

    Raises:
        DefinitionError: two have one name; one yields what no model handles; one of an aggregate is for an event
            without a key; reactions and handlers that say what they yield go round in a circle.
    """
    table: dict[type[Event], tuple[ReactionEntry, ...]] = {}
    places: dict[str, str] = {}
    for index, model in enumerate(models):
        for name, event, method in reactions_of(model):
            if name in places:
                raise DefinitionError(f"two reactions have the name {name!r}", places[name], method.place)
            places[name] = method.place
            _require_sound(model, event, method, handlers)
            table[event] = (*table.get(event, ()), ReactionEntry(name, index, method))
    _require_no_circle(table, handlers)
    return table


def places_of(reactions: Mapping[type[Event], tuple[ReactionEntry, ...]]) -> dict[str, str]:
    """By name of a reaction where it is written."""
    return {entry.name: entry.method.place for entries in reactions.values() for entry in entries}


def by_name(
    reactions: Mapping[type[Event], tuple[ReactionEntry, ...]],
    renamed: Mapping[str, str],
    effects: Collection[str] = (),
) -> dict[str, ReactionEntry]:
    """All reactions by name.

    Args:
        reactions: today's.
        renamed: what some were called once, and what they are called today; of effects, too.
        effects: the names of those.

    Raises:
        DefinitionError: a name is unknown, or taken.
    """
    known = {entry.name: entry for entries in reactions.values() for entry in entries}
    for old, new in renamed.items():
        if (new not in known and new not in effects) or old in known:
            what = f"there is a reaction {old!r} today" if old in known else f"there is no reaction {new!r}"
            raise DefinitionError(f"renamed={{{old!r}: {new!r}}} says what no reaction is called: {what}")
    return known | {old: known[new] for old, new in renamed.items() if new in known}


def _require_sound(
    model: type[WriteSide], event: type[Event], method: Method, handlers: Mapping[type[Command], Method]
) -> None:
    if is_keyed(model) and key_field(event) is None:
        raise DefinitionError(
            f"{model.__name__} has an instance for each key, and {event.__name__} has no Key field to say which one "
            "reacts: give it one, or let a WriteModel react",
            place_of(event),
            method.place,
        )
    for command in yielded_by(method, Command):
        if command not in handlers:
            raise DefinitionError(f"no model handles command {command.__name__}", place_of(command), method.place)


def _require_no_circle(
    reactions: Mapping[type[Event], tuple[ReactionEntry, ...]], handlers: Mapping[type[Command], Method]
) -> None:
    """See that what is said of what follows from what has no circle. Where it is not said, a limit ends one."""
    steps: dict[type[Any], list[tuple[type[Any], str]]] = {
        event: [(command, entry.method.place) for entry in entries for command in yielded_by(entry.method, Command)]
        for event, entries in reactions.items()
    }
    steps |= {
        command: [(event, method.place) for event in yielded_by(method, Event)] for command, method in handlers.items()
    }
    done: set[type[Any]] = set()
    for event in reactions:
        _walk(event, steps, [], done)


def _walk(
    message: type[Any],
    steps: Mapping[type[Any], list[tuple[type[Any], str]]],
    way: list[tuple[type[Any], str]],
    done: set[type[Any]],
) -> None:
    if message in done:
        return
    met = [each for each, _ in way]
    if message in met:
        circle = way[met.index(message) :]
        names = " → ".join(each.__name__ for each, _ in (*circle, circle[0]))
        raise DefinitionError(
            f"what follows from {message.__name__} never ends: {names}; where a rule ends the circle, let one of them "
            "say Iterator[Event] or Reaction, and a limit holds it",
            *dict.fromkeys(place for _, place in circle),
        )
    for after, place in steps.get(message, ()):
        _walk(after, steps, [*way, (message, place)], done)
    done.add(message)

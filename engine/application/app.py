"""What an application is: its write models and views, checked against each other and laid out as tables.

Here: every check that needs more than one class, and the tables that the engine dispatches with. Not here: any state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from functools import cached_property
from operator import attrgetter
from typing import Any, NamedTuple, get_args

import msgspec

from millstream.engine.application.changing import warn_of_changing
from millstream.engine.application.doors import BACKSLASH, without_nul
from millstream.engine.application.effects import EffectEntry, EffectSide, effects_in, names_of
from millstream.engine.application.exact import Exact, MessageCheck, exact_check, exact_or_reason
from millstream.engine.application.forms import require_event, require_message, require_readable
from millstream.engine.application.interrupts import INTERRUPTS
from millstream.engine.application.messages import Command, Event, Message, Query
from millstream.engine.application.methods import Method, key_field, may_time, place_of, yielded_by
from millstream.engine.application.promises import Promise, promise_of, require_kept
from millstream.engine.application.reactions import by_name, places_of, reactions_in
from millstream.engine.application.shards import Shard
from millstream.engine.application.sides import (
    Poison,
    ReadSide,
    RetiredSide,
    Side,
    WriteSide,
    code_version_of,
    is_keyed,
    is_of_command,
    keeps_elsewhere,
    poison_of,
    reactions_of,
)
from millstream.engine.application.validation import list_reader, reader, union_of, writer
from millstream.engine.errors import DefinitionError, HandlerFailed, InvalidMessage, UnknownMessage
from millstream.engine.errors.said import said_by

__all__ = ["App", "CommandEntry", "EventEntry", "QueryEntry", "tag_in", "tag_of"]


_SIDE = ("__appliers__", "snapshot", "restore")
_AGGREGATE = ("__handlers__", "__appliers__")


class CommandEntry(NamedTuple):
    """How one type of command is dispatched."""

    tag: str
    model: int
    method: Method
    key_of: Callable[[Any], str | None]
    #: Reads and checks one from its JSON.
    read: Callable[[bytes], Command]
    #: The same for JSON without a backslash, which has no NUL: it doesn't look for one.
    read_plain: Callable[[bytes], Command]
    #: Tells that a command is its own copy already, where its class has such a check.
    exact: Exact | None
    #: What it promises to answer; None if nothing.
    promise: Promise | None


class EventEntry(NamedTuple):
    """How one type of event is applied: by which write models, by their index; none, where only views care."""

    tag: str
    appliers: tuple[tuple[int, Method], ...]
    key_of: Callable[[Any], str | None]
    #: What its key is called in JSON; None if it has none.
    key_name: str | None
    #: Tells that an event is what writing and reading it back would give, where its class has such a check.
    exact: Exact | None


class QueryEntry(NamedTuple):
    """How one type of query is answered: by which view, by its index."""

    tag: str
    view: int
    method: Method


class App:
    """An application: what it is. `Engine` says where it runs.

    Args:
        models: the write models and aggregates, at least one. Each command is handled by exactly one of them.
        views: the views. Each query is answered by exactly one of them. A method is for its message's very class: who
            applies an event applies those that derive from it, too.
        retired: what events were stored as once, and commands of timers, and what they mean today; see
            `millstream.handlers.Retired`.
        name: stored in the log, which then opens for this application only. Default: the first model's class name.
        version: the application's own, as in ``"2026.11.1"``. The log says with which one each opening wrote.
        effects: classes of what is done to the outside world; see `millstream.handlers.Effects`. What a commit owes
            depends on them, so a replica declares them, too, and runs none.
        renamed: what reactions and effects were called once, and what they are called today: what a log owes to the
            old name.

    Raises:
        DefinitionError: the parts contradict each other; names both places.

    Warns:
        ChangingEventWarning: an event holds what can change, and is copied for each side; how to spell it instead.
    """

    #: Its place, where it is for one of several logs; see `sharded`.
    shard: Shard | None = None

    def __init__(
        self,
        *,
        models: Iterable[type[WriteSide]],
        views: Iterable[type[ReadSide]] = (),
        retired: Iterable[type[RetiredSide]] = (),
        name: str | None = None,
        version: str | None = None,
        effects: Iterable[type[EffectSide]] = (),
        renamed: Mapping[str, str] | None = None,
    ) -> None:
        self.models: Sequence[type[WriteSide]] = tuple(models)
        self.views: Sequence[type[ReadSide]] = tuple(views)
        known = tuple(_require_retired(retired))
        self.retired_commands: frozenset[type[RetiredSide]] = frozenset(filter(is_of_command, known))
        self.retired: frozenset[type[RetiredSide]] = frozenset(known) - self.retired_commands
        #: The classes of what is done to the outside world.
        self.effect_classes: Sequence[type[EffectSide]] = tuple(effects)
        if not self.models:
            raise DefinitionError("an App needs at least one write model")
        for model in self.models:
            _require_shape((model,), _AGGREGATE if is_keyed(model) else ("__handlers__", *_SIDE), "a write model")
        _require_shape(self.views, ("__answerers__", *_SIDE), "a view")
        _require_poison(self.views)
        _require_code_version((*self.models, *self.views))
        self.name = self.models[0].__name__ if name is None else name
        self.version = version
        if not self.name:
            raise DefinitionError("an App's name is not empty: its log is recognised by it")
        _require_unique("class", ((cls.__name__, place_of(cls)) for cls in (*self.models, *self.views)))
        for model in filter(is_keyed, self.models):
            _require_keys(model)
        self.commands = _commands(self.models)
        self.events = _events(self.models, self.views, self.effect_classes)
        self.queries = _queries(self.views)
        self.reactions = reactions_in(self.models, {each: entry.method for each, entry in self.commands.items()})
        #: By type of event what performs it.
        self.effects: Mapping[type[Event], tuple[EffectEntry, ...]] = effects_in(
            self.effect_classes, self.events, self.commands, places_of(self.reactions)
        )
        self.renamed: Mapping[str, str] = dict(renamed or {})
        #: By name, those of once among them.
        self.effects_by_name = names_of(self.effects, self.renamed)
        self.reactions_by_name = by_name(self.reactions, self.renamed, self.effects_by_name)
        if not self.events:
            raise DefinitionError(
                "an App needs at least one event that a model or a view applies",
                place_of(self.models[0]),
            )
        #: What a stored event may be: one of today's or a retired one.
        self.stored: Sequence[type[Any]] = (*self.events, *self.retired)
        sent = (*self.commands, *self.retired_commands)
        for messages in ((*self.commands, *self.events, *self.queries), self.stored, sent):
            _require_unique("tag", ((tag_of(message), place_of(message)) for message in messages))
        require_readable(union_of(self.stored))
        #: What takes messages in: they refuse what would not be read back as what it is. `doors` says what that is.
        self.encode_command: Callable[[Command], bytes] = writer(self.commands)
        self.encode_events: Callable[[list[Any]], bytes] = writer(self.events)
        self.read_event: Callable[[bytes], Event] = without_nul(
            reader(union_of(self.events)), lambda event: self._keys((event,))
        )
        #: As in `CommandEntry`: for JSON without a backslash.
        self.read_plain_events: Callable[[bytes], list[Event]] = list_reader(self.events)
        self.read_events: Callable[[bytes], list[Event]] = without_nul(self.read_plain_events, self._keys)
        self._sent_tags = frozenset(map(tag_of, sent))
        self._read_sent: Callable[[bytes], Any] = msgspec.json.Decoder(union_of(sent) if sent else Command).decode
        self._read_stored: Callable[[bytes], Any] = msgspec.json.Decoder(union_of(self.stored)).decode
        #: The same for what the log has already, or what that means today: it passed another door.
        self._read_today: Callable[[bytes], list[Event]] = msgspec.json.Decoder(list[union_of(self.events)]).decode  # type: ignore[misc]
        warn_of_changing(self.events, level=2)

    def sharded(self, place: int, of: int) -> App:
        """The same application for one of several logs, apart by key: for that of one place.

        The log is kept under the name ``NAME-PLACE-of-OF`` and opens for no other place. A command whose key belongs to
        another one is refused with `WrongShard`, also where a timer or a reaction sends it; so is a command whose
        handler yields an event of such a key.

        Args:
            place: from 1 on.
            of: how many logs there are, 1,024 at most. That can't be changed later.

        Raises:
            DefinitionError: there is no such place, or this is one of several already.
        """
        if self.shard is not None:
            raise DefinitionError(f"application {self.name!r} is shard {self.shard} already")
        made = copy(self)
        made.shard = Shard(place, of)
        made.name = made.shard.owner(self.name)
        guarded, events = made.shard.guarded, {event: entry.key_of for event, entry in self.events.items()}
        made.commands = {
            command: entry._replace(
                key_of=guarded(entry.key_of),
                method=entry.method._replace(function=made.shard.yielding(entry.method.function, events)),
            )
            for command, entry in self.commands.items()
        }
        return made

    @cached_property
    def views_in_memory(self) -> Sequence[type[ReadSide]]:
        """The views whose state lies in no database."""
        return tuple(view for view in self.views if not keeps_elsewhere(view))

    @cached_property
    def keeps_agenda(self) -> bool:
        """Whether something may be owed, or due later."""
        timed = (may_time(entry.method) for entry in self.commands.values())
        return bool(self.reactions or self.effects) or any(timed)

    def describe(self) -> list[MessageCheck]:
        """How each command and each event is checked, and why not in the quick way: to make a hot one quicker.

        A message of two fields that passes its exact check costs 0.2 µs, one that is written and read back 0.4.
        """
        found = [(message, exact_or_reason(message, key_field(message))) for message in (*self.commands, *self.events)]
        return [
            MessageCheck(tag_of(message), not isinstance(exact, str), exact if isinstance(exact, str) else None)
            for message, exact in found
        ]

    def upcast(self, stored: list[Any]) -> list[Event]:
        """What events that were read from the log mean today.

        Raises:
            HandlerFailed: an ``upcast`` raised, or gave something that is not an event of this application.
        """
        if not self.retired or self.retired.isdisjoint(map(type, stored)):
            return stored
        return [event for each in stored for event in self._today(each)]

    def failed_upcasts(self, stored: Sequence[Any]) -> list[tuple[int, str, bool, str]]:
        """Why `upcast` failed on these events: per event (its index, type, known, problem), as `mismatches` says it."""
        found: list[tuple[int, str, bool, str]] = []
        for index, event in enumerate(stored):
            try:
                self.upcast([event])
            except HandlerFailed as error:
                found.append((index, tag_of(type(event)), True, f"{error.handler} failed: {error.problem}"))
        return found

    def _today(self, stored: Any) -> Sequence[Event]:
        if type(stored) not in self.retired:
            return (stored,)
        place = place_of(type(stored))
        try:
            today = [event for each in stored.upcast() for event in self._today(each)]
            return self._read_today(self.encode_events(today))
        except (HandlerFailed, *INTERRUPTS):
            raise
        except BaseException as error:
            raise HandlerFailed(f"{place}.upcast", tag_of(type(stored)), said_by(error)) from error

    def own_command(self, command: Command) -> Command:
        """A private, checked copy of a command; itself, if it can't be changed and it is what its copy would be.

        Raises:
            UnknownMessage, InvalidMessage: it is none of this application, or not what its class declares.
        """
        entry = self.commands.get(type(command))
        if entry is None:
            known = tuple(each.tag for each in self.commands.values())
            raise UnknownMessage("command", type(command).__name__, self.name, known)
        if entry.exact is not None and entry.exact.check(command) is not False:
            return command
        try:
            data = self.encode_command(command)
            return (entry.read if BACKSLASH in data else entry.read_plain)(data)
        except Exception as error:
            raise InvalidMessage(type(command).__name__, str(error) or repr(error)) from error

    def today(self, stored: bytes) -> list[Event]:
        """What an event that was stored alone means today.

        Raises:
            msgspec.DecodeError: it is none that this application knows.
            HandlerFailed: an ``upcast`` raised.
        """
        return self.upcast([self._read_stored(stored)])

    def command_today(self, sent: bytes) -> Command | None:
        """What the command of a timer means today; None if nothing.

        Raises:
            msgspec.DecodeError: it is none that this application knows.
            HandlerFailed: an ``upcast`` raised, or gave several commands, or what is none.
        """
        command = self._read_sent(sent)
        while type(command) in self.retired_commands:
            place, old = f"{place_of(type(command))}.upcast", tag_of(type(command))
            try:
                found = list(command.upcast())
            except INTERRUPTS:
                raise
            except BaseException as error:
                raise HandlerFailed(place, old, said_by(error)) from error
            if len(found) > 1:
                raise HandlerFailed(place, old, f"it gave {len(found):,} commands, and a command means at most one")
            if not found:
                return None
            (command,) = found
        return self.own_command(command)

    def knows_command(self, tag: str) -> bool:
        """Whether a command of that tag can be read."""
        return tag in self._sent_tags

    def _keys(self, events: Iterable[Event]) -> list[str | None]:
        return [self.events[type(event)].key_of(event) for event in events]

    def __repr__(self) -> str:
        return f"<App {self.name!r}: {len(self.models)} models, {len(self.views)} views>"


def tag_of(message: type[Any]) -> str:
    """The name that a message has in JSON: its class name, unless its class says ``tag="…"``."""
    return str(message.__struct_config__.tag)


def tag_in(message: bytes) -> str:
    """The name that a message has, from its JSON; empty if it has none."""
    return _read_tag(message).type


class _Tagged(msgspec.Struct, gc=False):
    type: str = ""


_read_tag = msgspec.json.Decoder(_Tagged).decode


def _commands(models: Sequence[type[WriteSide]]) -> dict[type[Command], CommandEntry]:
    table: dict[type[Command], CommandEntry] = {}
    for index, model in enumerate(models):
        for command, method in model.__handlers__.items():
            if command in table:
                raise DefinitionError(
                    f"command {command.__name__} is handled twice", table[command].method.place, method.place
                )
            require_message(command)
            require_readable(command, place_of(command))
            require_kept(command, method)
            table[command] = _command_entry(command, index, method)
    return table


def _command_entry(command: type[Command], model: int, method: Method) -> CommandEntry:
    plain, key_of = reader(command), _key_getter(command)
    read = plain if key_of is _no_key else without_nul(plain, lambda message: (key_of(message),))
    exact, promise = exact_check(command, key_field(command)), promise_of(command)
    return CommandEntry(tag_of(command), model, method, key_of, read, plain, exact, promise)


def _events(
    models: Sequence[type[WriteSide]], views: Sequence[type[ReadSide]], effects: Sequence[type[EffectSide]]
) -> dict[type[Event], EventEntry]:
    appliers: dict[type[Event], list[tuple[int, Method]]] = {}
    for index, model in enumerate(models):
        for event, method in model.__appliers__.items():
            appliers.setdefault(event, []).append((index, method))
    for view in views:
        for event in view.__appliers__:
            appliers.setdefault(event, [])
    for model in models:
        for reaction in reactions_of(model):
            appliers.setdefault(reaction.event, [])
    handlers = [handler for model in models for handler in model.__handlers__.values()]
    yielded = [(event, handler.place) for handler in handlers for event in yielded_by(handler, Event)]
    performed = {method.event for side in effects for method in getattr(side, "__effects__", ())}
    for event, _ in yielded:
        if event in performed:  # one without an applier may be for the outside world alone
            appliers.setdefault(event, [])
    for event, place in yielded:
        if event not in appliers:
            raise DefinitionError(f"no model and no view applies event {event.__name__}", place_of(event), place)
    for event in appliers:
        require_event(event)
    for side in (*models, *views):
        _require_subclasses(side, appliers)
    return {event: _event_entry(event, those) for event, those in appliers.items()}


def _event_entry(event: type[Event], appliers: Iterable[tuple[int, Method]]) -> EventEntry:
    key = key_field(event)
    name = None if key is None else event.__struct_encode_fields__[event.__struct_fields__.index(key)]
    return EventEntry(tag_of(event), tuple(appliers), _key_getter(event), name, exact_check(event, key))


def _require_keys(model: type[WriteSide]) -> None:
    """See that each message of an aggregate says which instance it is for."""
    for message, method in (*model.__handlers__.items(), *model.__appliers__.items()):
        if key_field(message) is None:
            raise DefinitionError(
                f"{model.__name__} has an instance for each key, and {message.__name__} has no Key field to say which: "
                "give it one, or let a WriteModel take it",
                place_of(message),
                method.place,
            )


def _require_subclasses(side: type[Side], events: Iterable[type[Event]]) -> None:
    """See that who applies an event applies those derived from it: a method is for its very class."""
    for event in events:
        for base, method in side.__appliers__.items():
            if issubclass(event, base) and event not in side.__appliers__:
                raise DefinitionError(
                    f"{event.__name__} is a {base.__name__}, and @applies for {base.__name__} is for that very class: "
                    f"give {side.__name__} a method for {event.__name__}, too, one that does nothing if that is right",
                    place_of(event),
                    method.place,
                )


def _queries(views: Sequence[type[ReadSide]]) -> dict[type[Query[Any]], QueryEntry]:
    table: dict[type[Query[Any]], QueryEntry] = {}
    for index, view in enumerate(views):
        for query, method in view.__answerers__.items():
            if query in table:
                raise DefinitionError(
                    f"query {query.__name__} is answered twice", table[query].method.place, method.place
                )
            require_message(query)
            table[query] = QueryEntry(tag_of(query), index, method)
    return table


def _key_getter(message: type[Message]) -> Callable[[Any], str | None]:
    name = key_field(message)
    return _no_key if name is None else attrgetter(name)


def _no_check() -> None:
    """What a class of another base says about itself: nothing."""


def _no_key(_: Any) -> None:
    return None


def _require_shape(classes: Iterable[Any], names: Sequence[str], what: str) -> None:
    for cls in classes:
        missing = [name for name in names if not hasattr(cls, name)]
        if not isinstance(cls, type) or missing:
            raise DefinitionError(f"{cls!r} is not {what}: give the class, which needs {', '.join(names)}")
        try:
            cls()
        except TypeError as error:
            raise DefinitionError(
                f"{what} starts without arguments, so each field needs a default: {error}", place_of(cls)
            ) from error
        getattr(cls, "__checked__", _no_check)()


def _require_poison(views: Iterable[type[ReadSide]]) -> None:
    for view in views:
        if poison_of(view) not in get_args(Poison):
            raise DefinitionError(f"poison is one of {get_args(Poison)}, not {poison_of(view)!r}", place_of(view))


def _require_code_version(classes: Iterable[type[Any]]) -> None:
    for cls in classes:
        if type(code_version_of(cls)) is not int:
            raise DefinitionError(
                "code_version is a number of the class and no field of the state: write it without an annotation",
                place_of(cls),
            )


def _require_retired(retired: Iterable[Any]) -> Iterator[Any]:
    for cls in retired:
        config = getattr(cls, "__struct_config__", None) if isinstance(cls, type) else None
        if config is None or not callable(getattr(cls, "upcast", None)):
            raise DefinitionError(f"{cls!r} is not a retired message: derive it from millstream.handlers.Retired")
        require_message(cls)
        require_readable(cls, place_of(cls))
        yield cls


def _require_unique(what: str, named: Iterable[tuple[str, str]]) -> None:
    seen: dict[str, str] = {}
    for name, place in named:
        if name in seen:
            raise DefinitionError(f"two have the {what} {name!r}", seen[name], place)
        seen[name] = place

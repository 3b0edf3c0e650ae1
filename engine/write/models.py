"""A write model's state: one instance for all keys, or one for each.

Here: the two kinds, and how a method of each is called. Not here: when it is called (`state` decides, `parts` replays).

Invariant: a key has an instance from its first event on, until one that ends it. A command for a key that has none is
decided on a new one, which is thrown away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any, Protocol, TypeAlias, cast

import msgspec

from millstream.engine.application.about import About
from millstream.engine.application.app import CommandEntry
from millstream.engine.application.messages import Event
from millstream.engine.application.methods import Method
from millstream.engine.application.sides import Stored, WriteSide, ends_of, is_keyed
from millstream.engine.snapshots.pieces import add_piece, pieces_of

__all__ = ["Instances", "KeyOf", "ModelState", "new_state"]


#: Tells the key of a message.
KeyOf: TypeAlias = Callable[[Any], str | None]


class ModelState(Protocol):
    """The state of one write model, as new."""

    @property
    def stored(self) -> Stored:
        """All of it, to be put aside and taken up again."""
        ...

    @property
    def held(self) -> Any:
        """What the model holds: the instance, or the instances by key."""
        ...

    def handler(self, entry: CommandEntry) -> Callable[..., Iterable[Event]]:
        """The function that decides a command: called with the command, and the context where the method wants it."""
        ...

    def applier(
        self, event: type[Event], method: Method, key_of: KeyOf, tell: Callable[[], About]
    ) -> Callable[[Any], None]:
        """The function that applies an event of one type. A method that asks gets what ``tell`` gives then."""
        ...

    def deciding(self, entry: CommandEntry, command: Any) -> Any:
        """The instance that decides a command."""
        ...

    def reacting(self, key: str | None) -> Any:
        """The instance that reacts to an event of that key."""
        ...


def new_state(model: type[WriteSide]) -> ModelState:
    """The state of a model before the first event."""
    return _Keyed(model) if is_keyed(model) else _Whole(model)


class _Whole:
    """One instance for all keys."""

    def __init__(self, model: type[WriteSide]) -> None:
        self._instance = model()
        self.stored = cast(Stored, self._instance)

    @property
    def held(self) -> Any:
        return self._instance

    def handler(self, entry: CommandEntry) -> Callable[..., Iterable[Event]]:
        bound: Callable[..., Iterable[Event]] = entry.method.function.__get__(self._instance)
        return bound

    def applier(
        self, _event: type[Event], method: Method, _key_of: KeyOf, tell: Callable[[], About]
    ) -> Callable[[Any], None]:
        bound: Callable[..., None] = method.function.__get__(self._instance)
        return (lambda event: bound(event, tell())) if method.wants_more else bound

    def deciding(self, _entry: CommandEntry, _command: Any) -> Any:
        return self._instance

    def reacting(self, _key: str | None) -> Any:
        return self._instance


class Instances(msgspec.Struct):
    """All instances of a keyed model, by key: the base of a class for each model, whose ``instances`` holds them."""

    def snapshot(self) -> Iterator[bytes] | None:
        """The instances in pieces, as a Struct's."""
        return pieces_of(self)

    def restore(self, piece: bytes) -> None:
        """Take up the next piece."""
        add_piece(self, piece)


@lru_cache(maxsize=256)
def _instances_of(model: type[WriteSide]) -> Callable[[], Any]:
    held: Any = dict[str, model]  # type: ignore[valid-type]
    field: tuple[str, Any, Any] = ("instances", held, msgspec.field(default_factory=dict))
    return msgspec.defstruct(model.__name__, [field], bases=(Instances,), module=model.__module__)


class _Keyed:
    """An instance for each key."""

    def __init__(self, model: type[WriteSide]) -> None:
        self._model = model
        self._ends = ends_of(model)
        # Its dict is looked for at each call: what takes up a snapshot puts another one there.
        self.stored = _instances_of(model)()

    @property
    def held(self) -> Any:
        return self.stored.instances

    def handler(self, entry: CommandEntry) -> Callable[..., Iterable[Event]]:
        decide, key_of, stored, new = entry.method.function, entry.key_of, self.stored, self._model

        def handle(command: Any, *context: Any) -> Iterable[Event]:
            instance = stored.instances.get(key_of(command))
            found: Iterable[Event] = decide(new() if instance is None else instance, command, *context)
            return found

        return handle

    def applier(
        self, event: type[Event], method: Method, key_of: KeyOf, tell: Callable[[], About]
    ) -> Callable[[Any], None]:
        stored, new = self.stored, self._model
        given = method.function
        told: Callable[[Any, Any], None] = lambda instance, event: given(instance, event, tell())  # noqa: E731
        function = told if method.wants_more else given

        def apply(event: Any) -> None:
            key, instances = key_of(event), stored.instances
            instance = instances.get(key)
            if instance is None:
                instance = instances[key] = new()
            function(instance, event)

        def end(event: Any) -> None:
            apply(event)
            del stored.instances[key_of(event)]

        return end if event in self._ends else apply

    def deciding(self, entry: CommandEntry, command: Any) -> Any:
        return self.reacting(entry.key_of(command))

    def reacting(self, key: str | None) -> Any:
        instance = self.stored.instances.get(key)
        return self._model() if instance is None else instance

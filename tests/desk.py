"""A small application for tests of views that can't apply what they get: what fails, and what then, is chosen."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import ClassVar

from millstream.engine import App, Command, Event, Key, Query
from millstream.engine.application.sides import Poison, RetiredSide
from millstream.handlers import WriteModel, applies, handles
from millstream.views import View, answers


class Put(Command):
    item: Key
    what: str


class Say(Command):
    what: str


class Swap(Command):
    """Two events with two keys in one command."""

    item: Key
    to: str
    what: str


class Placed(Event):
    item: Key
    what: str


class Said(Event):
    what: str


class Passed(Event):
    """The view has nothing to do with it."""

    item: Key


class Seen(Query[tuple[str, ...]]):
    pass


class Counted(Query[int]):
    pass


class Desk(WriteModel):
    @handles
    def put(self, command: Put) -> Iterator[Event]:
        yield Placed(command.item, command.what)

    @handles
    def say(self, command: Say) -> Iterator[Event]:
        yield Said(command.what)

    @handles
    def swap(self, command: Swap) -> Iterator[Event]:
        yield Placed(command.item, command.what)
        yield Passed(command.item)
        yield Placed(command.to, command.what)

    @applies
    def placed(self, event: Placed) -> None: ...

    @applies
    def said(self, event: Said) -> None: ...

    @applies
    def passed(self, event: Passed) -> None: ...


class Tally(View):
    """A view beside the other, which is well."""

    count: int = 0

    @applies
    def placed(self, event: Placed) -> None:
        self.count += 1

    @answers
    def counted(self, query: Counted) -> int:
        return self.count


def desk(
    policy: Poison = "park",
    *,
    fails: Collection[str] = ("bad",),
    version: int = 1,
    retired: Sequence[type[RetiredSide]] = (),
) -> App:
    """An application whose view can't apply what is in ``fails``; it is mended by taking things out, or by a new App."""

    class Shelves(View):
        poison: ClassVar[Poison] = policy
        code_version: ClassVar[int] = version
        seen: list[str] = []

        @applies
        def placed(self, event: Placed) -> None:
            if event.what in fails:
                raise ValueError(f"can't take {event.what}")
            self.seen.append(f"{event.item} {event.what}")

        @applies
        def said(self, event: Said) -> None:
            if event.what in fails:
                raise LookupError(event.what)
            self.seen.append(event.what)

        @answers
        def answer(self, query: Seen) -> tuple[str, ...]:
            return tuple(self.seen)

    return App(models=[Desk], views=[Shelves, Tally], retired=retired, name="desk")

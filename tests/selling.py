"""An application for tests of reactions: orders are placed, and seats are held for them in the same commit."""

from __future__ import annotations

from collections.abc import Iterator

from millstream.engine import App, Command, Context, Event, Key
from millstream.handlers import Aggregate, Reaction, Rejected, WriteModel, applies, handles, reacts


class Order(Command, tag="Place"):
    order: Key
    show: str
    count: int


class Hold(Command):
    show: Key
    order: str
    count: int


class Cancel(Command):
    order: Key
    reason: str


class Stray(Command):
    """No model handles it."""

    text: str


class Placed(Event):
    order: Key
    show: str
    count: int


class Held(Event):
    show: Key
    order: str
    count: int


class Cancelled(Event):
    order: Key
    reason: str
    by: str | None
    because: str | None


class Show(Aggregate):
    free: int = 10
    told: list[str] = []

    @handles
    def hold(self, command: Hold) -> Iterator[Event]:
        if command.count > self.free:
            raise Rejected("sold_out", f"{self.free} are left", {"left": self.free})
        yield Held(command.show, command.order, command.count)

    @applies
    def held(self, event: Held) -> None:
        self.free -= event.count


class Orders(WriteModel):
    placed: dict[str, int] = {}
    cancelled: dict[str, str] = {}

    @handles
    def place(self, command: Order) -> Iterator[Event]:
        yield Placed(command.order, command.show, command.count)

    @handles
    def cancel(self, command: Cancel, context: Context) -> Iterator[Event]:
        metadata = context.metadata
        yield Cancelled(command.order, command.reason, metadata.actor, metadata.causation)

    @applies
    def when_placed(self, event: Placed) -> None:
        self.placed[event.order] = event.count

    @applies
    def when_cancelled(self, event: Cancelled) -> None:
        self.cancelled[event.order] = event.reason


class Selling(WriteModel):
    """Keeps nothing: it says what follows from what."""

    @reacts
    def hold_seats(self, event: Placed) -> Reaction:
        match event.show:
            case "fire":
                raise KeyError("a bug")
            case "stray":
                yield Hold("a", event.order, 1)
                yield Stray("nobody takes it")
            case "wrong":
                yield Hold("a", event.order, "three")  # type: ignore[arg-type]
        refused = yield Hold(event.show, event.order, event.count)
        if refused is not None:
            yield Cancel(event.order, f"{refused.code}: {refused.details['left']} left")


selling = App(models=[Show, Orders, Selling], name="selling")


class Mended(WriteModel):
    """`Selling` after its author has looked at it."""

    @reacts(name="Selling.hold_seats")
    def hold_seats(self, event: Placed) -> Reaction:
        yield Hold("a", event.order, event.count)


mended = App(models=[Show, Orders, Mended], name="selling")

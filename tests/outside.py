"""A shop that charges cards, and the outside world that it does so in: for the tests of effects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import anyio

from millstream.engine import App, Command, Context, Engine, Event, Key
from millstream.handlers import (
    Attempt,
    Decision,
    Effects,
    Rejected,
    WriteModel,
    applies,
    gave_up,
    handles,
    performs,
)

__all__ = [
    "Bank",
    "Buy",
    "Cancel",
    "Careful",
    "Confirm",
    "Look",
    "Mail",
    "PaymentRequested",
    "Payments",
    "Shop",
    "bugs",
    "careful",
    "shop",
    "shop_of",
]


class Buy(Command):
    order: Key
    amount: int = 10


class Mail(Command):
    """Its event has no key."""

    text: str


class Look(Command):
    """Yields nothing: whoever gets its receipt knows that all that was decided before it is durable."""


class Confirm(Command):
    order: Key
    charge: str


class Cancel(Command):
    order: Key
    problem: str


class PaymentRequested(Event):
    order: Key
    amount: int


class Mailed(Event):
    text: str


class Confirmed(Event):
    order: Key
    charge: str
    why: str | None = None
    breaks: bool = False


class Cancelled(Event):
    order: Key
    problem: str


class Shop(WriteModel):
    confirmed: list[str] = []
    cancelled: list[str] = []
    requested: int = 0

    @handles
    def buy(self, command: Buy) -> Iterator[PaymentRequested]:
        yield PaymentRequested(command.order, command.amount)

    @handles
    def mail(self, command: Mail) -> Iterator[Mailed]:
        yield Mailed(command.text)

    @handles
    def confirm(self, command: Confirm, context: Context) -> Decision:
        match bugs.get(command.order):
            case "refuses":
                raise Rejected("too_late", "it was cancelled")
            case "raises":
                raise KeyError(command.order)
            case "breaks":
                yield Confirmed(command.order, command.charge, breaks=True)
            case _:
                yield Confirmed(command.order, command.charge, context.metadata.causation)

    @handles
    def look(self, command: Look) -> Iterator[Event]:
        return iter(())

    @handles
    def cancel(self, command: Cancel) -> Iterator[Cancelled]:
        yield Cancelled(command.order, command.problem)

    @applies
    def when_requested(self, event: PaymentRequested) -> None:
        self.requested += 1

    @applies
    def when_mailed(self, event: Mailed) -> None:
        self.requested += 1

    @applies
    def when_confirmed(self, event: Confirmed) -> None:
        if event.breaks:
            raise ValueError("the state breaks")
        self.confirmed.append(event.order)

    @applies
    def when_cancelled(self, event: Cancelled) -> None:
        self.cancelled.append(event.order)


#: What is wrong with the shop's own code, by order.
bugs: dict[str, str] = {}


class Bank:
    """The outside world: what it was asked, and what it does. It remembers ids only if it is told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.charged: Counter[str] = Counter()
        self.done: list[tuple[str, str]] = []
        self.mailed: list[str] = []
        self.fails: Counter[str] = Counter()
        self.says: dict[str, Any] = {}
        self.running = 0
        self.running_most = 0
        self._gates: dict[str, anyio.Event] = {}

    def hold(self, order: str) -> Callable[[], None]:
        """Let calls for an order wait; returns what lets them go on."""
        gate = self._gates[order] = anyio.Event()

        def release() -> None:
            self._gates.pop(order, None)
            gate.set()

        return release

    async def charge(self, order: str, attempt_id: str) -> str:
        self.asked.append((order, attempt_id))
        self.running += 1
        self.running_most = max(self.running, self.running_most)
        try:
            if order in self._gates:
                await self._gates[order].wait()
            if self.fails[order]:
                self.fails[order] -= 1
                raise ConnectionError(f"no line for {order}")
        finally:
            self.running -= 1
        self.charged[order] += 1
        self.done.append((order, attempt_id))
        return f"charge-{order}"

    @property
    def orders(self) -> list[str]:
        """In which order it was asked."""
        return [order for order, _ in self.asked]


class Payments(Effects):
    def __init__(self, bank: Bank | None = None) -> None:
        self.bank = bank or Bank()
        self.entered = 0
        self.left = 0

    async def __aenter__(self) -> None:
        self.entered += 1

    async def __aexit__(self, *_: object) -> None:
        self.left += 1

    @performs(concurrency_max=3, timeout_seconds=5)
    async def charge(self, event: PaymentRequested, attempt: Attempt) -> Confirm | None:
        charge = await self.bank.charge(event.order, attempt.id)
        said: Confirm | None = self.bank.says.get(event.order, Confirm(event.order, charge))
        return said

    @performs
    async def send(self, event: Mailed) -> None:
        self.bank.mailed.append(event.text)


class Careful(Effects):
    """Tries three times, and says what follows when that was not enough."""

    def __init__(self, bank: Bank | None = None) -> None:
        self.bank = bank or Bank()

    @performs(attempts_max=3, backoff_seconds=0.001, backoff_seconds_max=0.002, after_parked="pass")
    async def charge(self, event: PaymentRequested, attempt: Attempt) -> Confirm:
        return Confirm(event.order, await self.bank.charge(event.order, attempt.id))

    @gave_up
    def charge_failed(self, event: PaymentRequested, attempt: Attempt, problem: str) -> Cancel:
        if bugs.get(event.order) == "gives up wrongly":
            raise KeyError(event.order)
        return Cancel(event.order, f"{attempt.number}: {problem}")


shop = App(models=[Shop], effects=[Payments], name="shop")
careful = App(models=[Shop], effects=[Careful], name="shop")


def shop_of(engine: Engine) -> Shop:
    """The live state of the shop."""
    (found,) = [part.state for part in engine.parts() if isinstance(part.state, Shop)]
    return found

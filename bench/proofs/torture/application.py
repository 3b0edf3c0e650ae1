"""The application that is tortured: the bank that is measured, with transfers, and a way to see the write side's state.

Here also: what it does outside, and the limits that it runs with. Not here: what is asked of it (`work`), and what is
outside (`service`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from types import TracebackType
from typing import Annotated, Self

import msgspec

from millstream.bench.bank import Balances, Bank, Deposited, Opened
from millstream.bench.proofs.torture.service import ATTEMPTS_MAX, Fate, Service, fate_of
from millstream.engine import App, Command, Event, Key, Limits, Query
from millstream.handlers import (
    Attempt,
    Decision,
    Effects,
    Reaction,
    Rejected,
    Schedule,
    applies,
    gave_up,
    handles,
    performs,
    reacts,
)
from millstream.views import answers

__all__ = [
    "CHARGING",
    "FEES",
    "PLANNED_FAILURES",
    "SENDING",
    "SETTLED_AFTER",
    "Audit",
    "Audited",
    "Billed",
    "Charge",
    "Charged",
    "Courier",
    "EventsSeen",
    "NoteSent",
    "NoteUnsent",
    "Sent",
    "Settle",
    "Settled",
    "Till",
    "TillBalances",
    "Transfer",
    "Unsent",
    "Withdrawn",
    "is_billed",
    "is_billed_later",
    "is_charged",
    "limits",
    "till",
]

#: Few, so that most processes take several snapshots.
_SNAPSHOT_EVENTS_EVERY = 3_000


_FAILS_AT = 7
_BILLED_EVERY, _BILLED_AT = 10, 5
_BILLED_LATER_AT = 13
_LATE_SECONDS = 0.01
#: The account that all charges go to.
FEES = "fees"
#: When a charge is settled, by a timer.
SETTLED_AFTER = timedelta(milliseconds=20)
#: What the log calls the reaction, and the effect.
CHARGING = "Till.charge_for"
SENDING = "Courier.send"
#: What ends the places of methods that fail by plan.
PLANNED_FAILURES = (CHARGING, SENDING, "Courier.unsent", "Till.note_sent")


class Transfer(Command):
    account: Key
    to: str
    amount: Annotated[int, msgspec.Meta(gt=0)]


class Withdrawn(Event):
    account: Key
    amount: int


class Billed(Event):
    """A bill is to be sent: the bank owes it."""

    account: Key
    of: int


class Charge(Command):
    """What a reaction sends, and no caller."""

    account: Key
    of: int


class Charged(Event):
    account: Key
    amount: int


class Settle(Command):
    """What a timer sends, and no caller."""

    account: Key
    of: int


class Settled(Event):
    account: Key
    amount: int


class NoteSent(Command):
    """What comes of a bill that was sent; no caller sends it."""

    account: Key
    attempt: str
    call: int


class Sent(Event):
    """Which attempt it was, and which call of the service: so the log can be held to what the service says."""

    account: Key
    amount: int
    attempt: str
    call: int


class NoteUnsent(Command):
    """What comes of a bill that could not be sent; no caller sends it."""

    account: Key
    attempt: str


class Unsent(Event):
    account: Key
    attempt: str


class Audit(Command):
    """Never executed: its preview is the write side's balances."""


class Audited(Event):
    balances: tuple[tuple[str, int], ...]


class EventsSeen(Query[int]):
    """How many events the answers are made of; there is no other kind in the log, so it is a position too."""


def is_charged(amount: int) -> bool:
    """Whether a transfer of so much is charged for; the reaction to another one fails, and is parked."""
    return amount % _FAILS_AT != 0


def is_billed(amount: int) -> bool:
    """Whether a bill is sent for a transfer of so much: owed by the commit in which a caller's command lies."""
    return amount % _BILLED_EVERY == _BILLED_AT


def is_billed_later(amount: int) -> bool:
    """Whether one is sent when the charge for a transfer of so much is settled: owed by a timer's commit."""
    return amount == _BILLED_LATER_AT


class Till(Bank):
    """The bank, with a command that touches two keys, a reaction to it, a timer that this sets, and what it owes to the
    outside world.
    """

    @handles
    def transfer(self, command: Transfer) -> Iterator[Event]:
        for account in (command.account, command.to):
            if account not in self.balances:
                raise Rejected("no_such_account", f"no account {account!r}")
        if self.balances[command.account] < command.amount:
            raise Rejected("insufficient_funds", details={"balance": self.balances[command.account]})
        yield Withdrawn(command.account, command.amount)
        yield Deposited(command.to, command.amount)
        if is_billed(command.amount):
            yield Billed(command.account, command.amount)

    @handles
    def charge(self, command: Charge) -> Decision:
        yield Charged(command.account, 1)
        yield Schedule(Settle(command.account, command.of), after=SETTLED_AFTER)

    @handles
    def settle(self, command: Settle) -> Iterator[Event]:
        yield Settled(command.account, 1)
        if is_billed_later(command.of):
            yield Billed(command.account, command.of)

    @handles
    def note_sent(self, command: NoteSent) -> Iterator[Event]:
        fate = fate_of(command.attempt)
        if fate is Fate.REFUSED:
            raise Rejected("unwanted")
        if fate is Fate.BROKEN:
            raise ValueError(f"{command.attempt} is one of those")
        yield Sent(command.account, 1, command.attempt, command.call)

    @handles
    def note_unsent(self, command: NoteUnsent) -> Iterator[Event]:
        yield Unsent(command.account, command.attempt)

    @reacts
    def charge_for(self, event: Withdrawn) -> Reaction:
        """Each transfer has its price; but for some, at which this fails."""
        if not is_charged(event.amount):
            raise ValueError(f"{event.amount} is one of those")
        yield Charge(FEES, event.amount)

    @handles
    def audit(self, command: Audit) -> Iterator[Event]:
        yield Audited(tuple(self.balances.items()))

    @applies
    def withdrawn(self, event: Withdrawn) -> None:
        self.balances[event.account] -= event.amount

    @applies
    def charged(self, event: Charged) -> None:
        self.balances[event.account] = self.balances.get(event.account, 0) + event.amount

    @applies
    def settled(self, event: Settled) -> None:
        self.balances[event.account] = self.balances.get(event.account, 0) + event.amount

    @applies
    def sent(self, event: Sent) -> None:
        self.balances[event.account] = self.balances.get(event.account, 0) + event.amount

    @applies
    def audited(self, event: Audited) -> None:
        pass


class Courier(Effects):
    """Sends the bank's bills.

    Args:
        service: what is called for it. Open while an engine is that has this.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __aenter__(self) -> Self:
        self._service.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._service.close()

    @performs(attempts_max=ATTEMPTS_MAX, backoff_seconds=0.004, after_parked="pass")
    async def send(self, event: Billed, attempt: Attempt) -> NoteSent:
        """The service does it in any case; what it answers is another thing."""
        call = self._service.call(attempt.id, attempt.number, attempt.position, event.account)
        fate = fate_of(attempt.id)
        if fate is Fate.LATE:
            await asyncio.sleep(_LATE_SECONDS)
        if fate in (Fate.GIVEN_UP, Fate.PARKED) or (fate is Fate.RETRIED and attempt.number == 1):
            raise ConnectionError("no answer")
        return NoteSent(event.account, attempt.id, call)

    @gave_up
    def unsent(self, event: Billed, attempt: Attempt, problem: str) -> NoteUnsent:
        if fate_of(attempt.id) is Fate.PARKED:
            raise ValueError(f"{attempt.id} is one of those: {problem}")
        return NoteUnsent(event.account, attempt.id)


class TillBalances(Balances):
    """The view of it, which counts what it has seen."""

    events: int = 0

    @applies
    def opened(self, event: Opened) -> None:
        self.events += 1
        self.balances[event.account] = 0

    @applies
    def deposited(self, event: Deposited) -> None:
        self.events += 1
        self.balances[event.account] += event.amount

    @applies
    def withdrawn(self, event: Withdrawn) -> None:
        self.events += 1
        self.balances[event.account] -= event.amount

    @applies
    def charged(self, event: Charged) -> None:
        self.events += 1
        self.balances[event.account] = self.balances.get(event.account, 0) + event.amount

    @applies
    def settled(self, event: Settled) -> None:
        self.events += 1
        self.balances[event.account] = self.balances.get(event.account, 0) + event.amount

    @applies
    def billed(self, event: Billed) -> None:
        self.events += 1

    @applies
    def sent(self, event: Sent) -> None:
        self.events += 1
        self.balances[event.account] = self.balances.get(event.account, 0) + event.amount

    @applies
    def unsent(self, event: Unsent) -> None:
        self.events += 1

    @answers
    def seen(self, query: EventsSeen) -> int:
        return self.events


till = App(models=[Till], views=[TillBalances], effects=[Courier], name="millstream-torture")


def limits() -> Limits:
    """The engine's own, but for snapshots: so many of them that kills fall into one."""
    return Limits(snapshot_events_every=_SNAPSHOT_EVENTS_EVERY)

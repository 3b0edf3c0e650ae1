"""The application that is tortured: the bank that is measured, with transfers, and a way to see the write side's state.

Here also: the limits that it runs with. Not here: what is asked of it (`work`).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated

import msgspec

from millstream.bench.bank import Balances, Bank, Deposited, Opened
from millstream.engine import App, Command, Event, Key, Limits, Query
from millstream.handlers import Decision, Reaction, Rejected, Schedule, applies, handles, reacts
from millstream.views import answers

__all__ = [
    "CHARGING",
    "FEES",
    "SETTLED_AFTER",
    "Audit",
    "Audited",
    "Charge",
    "Charged",
    "EventsSeen",
    "Settle",
    "Settled",
    "Till",
    "TillBalances",
    "Transfer",
    "Withdrawn",
    "is_charged",
    "limits",
    "till",
]

#: Few, so that most processes take several snapshots.
_SNAPSHOT_EVENTS_EVERY = 3_000


_FAILS_AT = 7
#: The account that all charges go to.
FEES = "fees"
#: When a charge is settled, by a timer.
SETTLED_AFTER = timedelta(milliseconds=20)
#: What the log calls the reaction.
CHARGING = "Till.charge_for"


class Transfer(Command):
    account: Key
    to: str
    amount: Annotated[int, msgspec.Meta(gt=0)]


class Withdrawn(Event):
    account: Key
    amount: int


class Charge(Command):
    """What a reaction sends: nobody else does."""

    account: Key


class Charged(Event):
    account: Key
    amount: int


class Settle(Command):
    """What a timer sends: nobody else does."""

    account: Key


class Settled(Event):
    account: Key
    amount: int


class Audit(Command):
    """Never executed: its preview is the write side's balances."""


class Audited(Event):
    balances: tuple[tuple[str, int], ...]


class EventsSeen(Query[int]):
    """How many events the answers are made of; there is no other kind in the log, so it is a position too."""


def is_charged(amount: int) -> bool:
    """Whether a transfer of so much is charged for; the reaction to another one fails, and is parked."""
    return amount % _FAILS_AT != 0


class Till(Bank):
    """The bank, with a command that touches two keys, a reaction to it, and a timer that this sets."""

    @handles
    def transfer(self, command: Transfer) -> Iterator[Event]:
        for account in (command.account, command.to):
            if account not in self.balances:
                raise Rejected("no_such_account", f"no account {account!r}")
        if self.balances[command.account] < command.amount:
            raise Rejected("insufficient_funds", details={"balance": self.balances[command.account]})
        yield Withdrawn(command.account, command.amount)
        yield Deposited(command.to, command.amount)

    @handles
    def charge(self, command: Charge) -> Decision:
        yield Charged(command.account, 1)
        yield Schedule(Settle(command.account), after=SETTLED_AFTER)

    @handles
    def settle(self, command: Settle) -> Iterator[Event]:
        yield Settled(command.account, 1)

    @reacts
    def charge_for(self, event: Withdrawn) -> Reaction:
        """Each transfer has its price; but for some, at which this fails."""
        if not is_charged(event.amount):
            raise ValueError(f"{event.amount} is one of those")
        yield Charge(FEES)

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
    def audited(self, event: Audited) -> None:
        pass


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

    @answers
    def seen(self, query: EventsSeen) -> int:
        return self.events


till = App(models=[Till], views=[TillBalances], name="millstream-torture")


def limits() -> Limits:
    """The engine's own, but for snapshots: so many of them that kills fall into one."""
    return Limits(snapshot_events_every=_SNAPSHOT_EVENTS_EVERY)

"""The application whose histories are checked: a bank in which most of what happens depends on what happened before.

An account's standing is its balance and its version, the number of its events. Every answer tells it, and every refusal
too: so a decision on a state that is no more, or not yet, shows itself.

A refused caller has seen a state, and a view may not have it yet; so the writer says at which position that was,
which makes a token of a refusal. This bank counts its events, which is the position that its state is at, and says it
with every refusal: what the writer says is held against that.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, TypeAlias

import msgspec

from millstream.engine import App, Command, Event, Key, Query
from millstream.handlers import Rejected, WriteModel, applies, handles
from millstream.views import View, answers

__all__ = [
    "Accounts",
    "Change",
    "Deposit",
    "Deposited",
    "Open",
    "Opened",
    "Standing",
    "StandingOf",
    "Standings",
    "Withdraw",
    "Withdrawn",
    "accounts",
]

_Amount: TypeAlias = Annotated[int, msgspec.Meta(gt=0)]


class Open(Command):
    account: Key


class Deposit(Command):
    account: Key
    amount: _Amount


class Withdraw(Command):
    account: Key
    amount: _Amount


Change: TypeAlias = Open | Deposit | Withdraw


class Opened(Event):
    account: Key


class Deposited(Event):
    account: Key
    amount: int


class Withdrawn(Event):
    account: Key
    amount: int


class Standing(msgspec.Struct, frozen=True):
    """An account as it is: how many events it has had, and what is in it. Without events it is not open."""

    version: int = 0
    balance: int = 0

    def plus(self, amount: int) -> Standing:
        """After one more event."""
        return Standing(self.version + 1, self.balance + amount)


class StandingOf(Query[Standing]):
    account: Key


class Accounts(WriteModel):
    """What decides."""

    events: int = 0
    standings: dict[str, Standing] = {}

    @handles
    def open(self, command: Open) -> Iterator[Event]:
        if command.account in self.standings:
            raise self._refusal("account_exists", command.account)
        yield Opened(command.account)

    @handles
    def deposit(self, command: Deposit) -> Iterator[Event]:
        if command.account not in self.standings:
            raise self._refusal("no_such_account", command.account)
        yield Deposited(command.account, command.amount)

    @handles
    def withdraw(self, command: Withdraw) -> Iterator[Event]:
        if command.account not in self.standings:
            raise self._refusal("no_such_account", command.account)
        if self.standings[command.account].balance < command.amount:
            raise self._refusal("insufficient_funds", command.account)
        yield Withdrawn(command.account, command.amount)

    @applies
    def opened(self, event: Opened) -> None:
        self._count(event.account, 0)

    @applies
    def deposited(self, event: Deposited) -> None:
        self._count(event.account, event.amount)

    @applies
    def withdrawn(self, event: Withdrawn) -> None:
        self._count(event.account, -event.amount)

    def _count(self, account: str, amount: int) -> None:
        self.events += 1
        self.standings[account] = self.standings.get(account, Standing()).plus(amount)

    def _refusal(self, code: str, account: str) -> Rejected:
        standing = self.standings.get(account, Standing())
        details: dict[str, Any] = {
            "version": standing.version,
            "balance": standing.balance,
            "events": self.events,
        }
        return Rejected(code, f"account {account!r}", details)


class Standings(View):
    """What answers."""

    standings: dict[str, Standing] = {}

    @applies
    def opened(self, event: Opened) -> None:
        self._count(event.account, 0)

    @applies
    def deposited(self, event: Deposited) -> None:
        self._count(event.account, event.amount)

    @applies
    def withdrawn(self, event: Withdrawn) -> None:
        self._count(event.account, -event.amount)

    @answers
    def standing(self, query: StandingOf) -> Standing:
        return self.standings.get(query.account, Standing())

    def _count(self, account: str, amount: int) -> None:
        self.standings[account] = self.standings.get(account, Standing()).plus(amount)


accounts = App(models=[Accounts], views=[Standings], name="millstream-histories")

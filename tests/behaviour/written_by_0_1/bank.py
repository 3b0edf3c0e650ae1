"""The bank as it was when the files beside this were written: the snapshots fit this shape of it, and no other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from msgspec import Meta

from millstream.engine import App, Command, Event, Key, Query
from millstream.handlers import Rejected, WriteModel, applies, handles
from millstream.views import View, answers

Amount = Annotated[int, Meta(gt=0)]


class Open(Command):
    account: Key


class Deposit(Command):
    account: Key
    amount: Amount


class Transfer(Command):
    account: Key
    to: str
    amount: Amount


class Opened(Event):
    account: Key


class Deposited(Event):
    account: Key
    amount: int


class Withdrawn(Event):
    account: Key
    amount: int


class BalanceOf(Query[int | None]):
    account: Key


class Bank(WriteModel):
    balances: dict[str, int] = {}

    @handles
    def open(self, command: Open) -> Iterator[Event]:
        if command.account in self.balances:
            raise Rejected("account_exists", f"account {command.account!r} is open already")
        yield Opened(command.account)

    @handles
    def deposit(self, command: Deposit) -> Iterator[Event]:
        self._require(command.account)
        yield Deposited(command.account, command.amount)

    @handles
    def transfer(self, command: Transfer) -> Iterator[Event]:
        self._require(command.account)
        self._require(command.to)
        if self.balances[command.account] < command.amount:
            raise Rejected("insufficient_funds", details={"balance": self.balances[command.account]})
        yield Withdrawn(command.account, command.amount)
        yield Deposited(command.to, command.amount)

    @applies
    def opened(self, event: Opened) -> None:
        self.balances[event.account] = 0

    @applies
    def deposited(self, event: Deposited) -> None:
        self.balances[event.account] += event.amount

    @applies
    def withdrawn(self, event: Withdrawn) -> None:
        self.balances[event.account] -= event.amount

    def _require(self, account: str) -> None:
        if account not in self.balances:
            raise Rejected("no_such_account", f"no account {account!r}")


class Balances(View):
    balances: dict[str, int] = {}

    @applies
    def opened(self, event: Opened) -> None:
        self.balances[event.account] = 0

    @applies
    def deposited(self, event: Deposited) -> None:
        self.balances[event.account] += event.amount

    @applies
    def withdrawn(self, event: Withdrawn) -> None:
        self.balances[event.account] -= event.amount

    @answers
    def balance(self, query: BalanceOf) -> int | None:
        return self.balances.get(query.account)


app = App(models=[Bank], views=[Balances], name="bank")

"""The application that is measured, and the commands that are put to it.

Small on purpose: what is measured is the engine, not the rules of a bank.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from random import Random
from typing import Annotated, NamedTuple

import msgspec

from penstock.bench.workload import Workload
from penstock.engine import App, Command, Event, Key, Query
from penstock.handlers import Rejected, WriteModel, applies, handles
from penstock.views import View, answers

__all__ = [
    "AllBalances",
    "BalanceOf",
    "Balances",
    "Bank",
    "Deposit",
    "Deposited",
    "Open",
    "Opened",
    "Streams",
    "account_name",
    "bank",
    "fingerprint",
    "queries",
    "streams",
    "totals",
]

_AMOUNT_MAX = 100


class Open(Command):
    account: Key


class Deposit(Command):
    account: Key
    amount: Annotated[int, msgspec.Meta(gt=0)]


class Opened(Event):
    account: Key


class Deposited(Event):
    account: Key
    amount: int


class BalanceOf(Query[int | None]):
    account: Key


class AllBalances(Query[dict[str, int]]):
    pass


class Bank(WriteModel):
    balances: dict[str, int] = {}

    @handles
    def open(self, command: Open) -> Iterator[Event]:
        if command.account in self.balances:
            raise Rejected("account_exists", f"account {command.account!r} is open already")
        yield Opened(command.account)

    @handles
    def deposit(self, command: Deposit) -> Iterator[Event]:
        if command.account not in self.balances:
            raise Rejected("no_such_account", f"no account {command.account!r}")
        yield Deposited(command.account, command.amount)

    @applies
    def opened(self, event: Opened) -> None:
        self.balances[event.account] = 0

    @applies
    def deposited(self, event: Deposited) -> None:
        self.balances[event.account] += event.amount


class Balances(View):
    balances: dict[str, int] = {}

    @applies
    def opened(self, event: Opened) -> None:
        self.balances[event.account] = 0

    @applies
    def deposited(self, event: Deposited) -> None:
        self.balances[event.account] += event.amount

    @answers
    def balance(self, query: BalanceOf) -> int | None:
        return self.balances.get(query.account)

    @answers
    def everything(self, query: AllBalances) -> dict[str, int]:
        return dict(self.balances)


bank = App(models=[Bank], views=[Balances], name="penstock-bench-bank")


class Streams(NamedTuple):
    """A workload's commands, in the order in which they are sent; the same for the same workload, always."""

    opening: list[Open]
    warmup: list[Deposit]
    measured: list[Deposit]


def streams(workload: Workload) -> Streams:
    """The commands of a workload."""
    random = Random(workload.seed)
    names = _names(workload)

    def deposits(count: int) -> list[Deposit]:
        if workload.own_accounts:  # the caller that gets every n-th command always gets the same account
            turns = (names[number % workload.callers] for number in range(count))
            return [Deposit(name, random.randint(1, _AMOUNT_MAX)) for name in turns]
        return [Deposit(random.choice(names), random.randint(1, _AMOUNT_MAX)) for _ in range(count)]

    return Streams([Open(name) for name in names], deposits(workload.warmup), deposits(workload.commands))


def queries(workload: Workload) -> list[BalanceOf]:
    """A workload's questions, in the order in which they are asked."""
    random = Random(workload.seed + 1)
    prepared = [BalanceOf(name) for name in _names(workload)]
    return [random.choice(prepared) for _ in range(workload.asks)]


def totals(workload: Workload, deposits: list[Deposit]) -> dict[str, int]:
    """The balances that are right after these deposits."""
    balances = dict.fromkeys(_names(workload), 0)
    for deposit in deposits:
        balances[deposit.account] += deposit.amount
    return balances


def fingerprint(balances: Mapping[str, int | None]) -> str:
    """A hash that two banks share only if every account of theirs has the same balance."""
    return blake2b(msgspec.json.encode(sorted(balances.items())), digest_size=8).hexdigest()


def account_name(number: int) -> str:
    """The name of the account with that number, from 0 on."""
    return f"account-{number:07}"


def _names(workload: Workload) -> list[str]:
    return [account_name(number) for number in range(workload.accounts)]

"""The application that is measured, and the commands that are put to it.

Small on purpose: what is measured is the engine, not the rules of a bank.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import accumulate
from random import Random
from typing import Annotated, NamedTuple, TypeAlias

import msgspec

from millstream.bench.workload import Workload
from millstream.engine import App, Command, Event, Key, Query
from millstream.handlers import Rejected, WriteModel, applies, handles
from millstream.views import View, answers

__all__ = [
    "AllBalances",
    "BalanceOf",
    "Balances",
    "Bank",
    "Branch",
    "BranchBalances",
    "Deposit",
    "Deposited",
    "Move",
    "Moves",
    "Open",
    "Opened",
    "Remit",
    "Remitted",
    "Streams",
    "Transfer",
    "Transferred",
    "account_name",
    "bank",
    "fingerprint",
    "moves",
    "operations",
    "past",
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


class Transfer(Command):
    account: Key
    to: str
    amount: Annotated[int, msgspec.Meta(gt=0)]


class Remit(Command):
    account: Key
    amount: Annotated[int, msgspec.Meta(gt=0)]
    memo: str


class Opened(Event):
    account: Key


class Deposited(Event):
    account: Key
    amount: int


class Transferred(Event):
    account: Key
    to: str
    amount: int


class Remitted(Event):
    account: Key
    amount: int
    memo: str


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


class Branch(Bank):
    """The bank, with commands that touch two accounts or carry a text."""

    @handles
    def transfer(self, command: Transfer) -> Iterator[Event]:
        """Overdrafts are allowed, so that the order of transfers makes no difference to what they add up to."""
        for account in (command.account, command.to):
            if account not in self.balances:
                raise Rejected("no_such_account", f"no account {account!r}")
        yield Transferred(command.account, command.to, command.amount)

    @handles
    def remit(self, command: Remit) -> Iterator[Event]:
        if command.account not in self.balances:
            raise Rejected("no_such_account", f"no account {command.account!r}")
        yield Remitted(command.account, command.amount, command.memo)

    @applies
    def transferred(self, event: Transferred) -> None:
        self.balances[event.account] -= event.amount
        self.balances[event.to] += event.amount

    @applies
    def remitted(self, event: Remitted) -> None:
        self.balances[event.account] += event.amount


class BranchBalances(Balances):
    """The view of it."""

    @applies
    def transferred(self, event: Transferred) -> None:
        self.balances[event.account] -= event.amount
        self.balances[event.to] += event.amount

    @applies
    def remitted(self, event: Remitted) -> None:
        self.balances[event.account] += event.amount


bank = App(models=[Branch], views=[BranchBalances], name="millstream-bench-bank")


#: What moves money: what is measured, and what warms up.
Move: TypeAlias = Deposit | Transfer | Remit


class Streams(NamedTuple):
    """A workload's commands, in the order in which they are sent; the same for the same workload, always."""

    opening: list[Open]
    warmup: list[Deposit]
    measured: list[Deposit]


class Moves(NamedTuple):
    """The same, of whatever kind the workload says."""

    opening: list[Open]
    warmup: Sequence[Move]
    measured: Sequence[Move]


def streams(workload: Workload) -> Streams:
    """The commands of a workload that is made of deposits."""
    if workload.kind != "deposit":
        raise ValueError(f"these are deposits, and the workload asks for kind {workload.kind!r}")
    make, names = Random(workload.seed), _names(workload)
    accounts = _drawn(workload, make, names)

    def deposits(count: int) -> list[Deposit]:
        if workload.own_accounts:  # the caller that gets every n-th command always gets the same account
            turns = (names[number % workload.callers] for number in range(count))
            return [Deposit(name, make.randint(1, _AMOUNT_MAX)) for name in turns]
        return [Deposit(accounts(), make.randint(1, _AMOUNT_MAX)) for _ in range(count)]

    return Streams([Open(name) for name in names], deposits(workload.warmup), deposits(workload.commands))


def moves(workload: Workload) -> Moves:
    """The commands of a workload."""
    if workload.kind == "deposit":
        return Moves(*streams(workload))
    make, names = Random(workload.seed), _names(workload)
    accounts, memo = _drawn(workload, make, names), "m" * workload.memo_bytes

    def one() -> Move:
        account, amount = accounts(), make.randint(1, _AMOUNT_MAX)
        return Remit(account, amount, memo) if workload.kind == "memo" else Transfer(account, accounts(), amount)

    return Moves(
        [Open(name) for name in names],
        [one() for _ in range(workload.warmup)],
        [one() for _ in range(workload.commands)],
    )


def past(workload: Workload) -> Iterator[Deposit]:
    """The deposits that were made before a workload begins, one after another: too many to hold."""
    make, names = Random(workload.seed + 2), _names(workload)
    accounts = _drawn(workload, make, names)
    return (Deposit(accounts(), make.randint(1, _AMOUNT_MAX)) for _ in range(workload.history))


def operations(workload: Workload, measured: Sequence[Move]) -> list[Move | BalanceOf]:
    """The commands that are measured, some of them replaced by questions for the same account."""
    make = Random(workload.seed + 3)
    return [BalanceOf(each.account) if make.random() < workload.reads else each for each in measured]


def queries(workload: Workload) -> list[BalanceOf]:
    """A workload's questions, in the order in which they are asked."""
    make = Random(workload.seed + 1)
    prepared = [BalanceOf(name) for name in _names(workload)]
    return [make.choice(prepared) for _ in range(workload.asks)]


def totals(workload: Workload, commands: Iterable[Move]) -> dict[str, int]:
    """The balances that are right after these commands."""
    balances = dict.fromkeys(_names(workload), 0)
    for command in commands:
        if isinstance(command, Transfer):
            balances[command.account] -= command.amount
            balances[command.to] += command.amount
        else:
            balances[command.account] += command.amount
    return balances


def fingerprint(balances: Mapping[str, int | None]) -> str:
    """A hash that two banks share only if every account of theirs has the same balance."""
    return blake2b(msgspec.json.encode(sorted(balances.items())), digest_size=8).hexdigest()


def account_name(number: int) -> str:
    """The name of the account with that number, from 0 on."""
    return f"account-{number:07}"


def _names(workload: Workload) -> list[str]:
    return [account_name(number) for number in range(workload.accounts)]


def _drawn(workload: Workload, make: Random, names: list[str]) -> Callable[[], str]:
    """What gives one account after another, drawn as the workload says."""
    if not workload.zipf:
        return lambda: make.choice(names)
    weights = list(accumulate(number**-workload.zipf for number in range(1, len(names) + 1)))
    return lambda: make.choices(names, cum_weights=weights)[0]

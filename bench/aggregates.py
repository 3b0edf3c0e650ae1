"""The bank with an instance for each account, beside the one that keeps all balances in one dict.

Here: the application, and its memory. Not here: the bank itself (`bank`).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from millstream.bench.bank import BranchBalances, Deposit, Deposited, Open, Opened
from millstream.bench.opening import memory_of
from millstream.engine import App, Context, Event
from millstream.handlers import Aggregate, Rejected, applies, handles

__all__ = ["by_account", "memory"]


class _Account(Aggregate):
    """What the bank holds of one account, and the same rules."""

    balance: int = 0

    @handles
    def open(self, command: Open, context: Context) -> Iterator[Event]:
        if context.version:
            raise Rejected("account_exists", f"account {command.account!r} is open already")
        yield Opened(command.account)

    @handles
    def deposit(self, command: Deposit, context: Context) -> Iterator[Event]:
        if not context.version:
            raise Rejected("no_such_account", f"no account {command.account!r}")
        yield Deposited(command.account, command.amount)

    @applies
    def opened(self, event: Opened) -> None: ...

    @applies
    def deposited(self, event: Deposited) -> None:
        self.balance += event.amount


by_account = App(models=[_Account], views=[BranchBalances], name="millstream-bench-bank")

#: Bytes of memory for each key, as `opening.memory` measures them.
memory = partial(memory_of, by_account)

"""The commands that callers send, each made from its name alone, and what each must leave in the log.

A name is ``generation.caller.number``: the process, the caller in it, and how many this caller sent before. It is the
command's id, so a process that knows a name can send that very command again, and knows its events. In a list
for `execute_many`, which is one number, a command's name is ``generation.caller.number.index``. Every other list is
sent without ids: its own name is its correlation then, and each deposit in it is known from the others by its amount.

Here: pure functions. Not here: sending (`child`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

from millstream.bench.bank import Deposit, Open
from millstream.bench.proofs.older import Older
from millstream.bench.proofs.torture.application import Transfer, is_billed
from millstream.engine import Command

__all__ = [
    "Role",
    "accounts",
    "batch",
    "command",
    "expected_events",
    "has_id",
    "name_in_log",
    "older",
    "opening",
    "own_account",
    "role_of",
    "unanswered",
]

_POOL = 20
_BATCH_MAX = 30
#: How far beyond the last answer that came a caller may have got, with room to spare.
_AHEAD = 3
_OLDER_PER_COMMIT = 5


class Role(StrEnum):
    """What a caller does, over and over."""

    DEPOSIT = "deposits into accounts of all"
    TRANSFER = "transfers between accounts of all"
    ASK = "deposits into its own account, and asks for the balance that it must have now"
    BATCH = "gives lists of deposits into its own account to execute_many"


_ROLES = (
    Role.DEPOSIT,
    Role.TRANSFER,
    Role.ASK,
    Role.BATCH,
    Role.DEPOSIT,
    Role.TRANSFER,
    Role.ASK,
    Role.DEPOSIT,
)


def role_of(caller: int) -> Role:
    """What this caller does."""
    return _ROLES[caller % len(_ROLES)]


def own_account(caller: int) -> str:
    """The account into which no other caller pays."""
    return f"own-{caller}"


def accounts(callers: int) -> list[str]:
    """All accounts of a bank with so many callers."""
    return [*map(_shared, range(_POOL)), *map(own_account, range(callers))]


def opening(generation: int, account: str) -> str:
    """The name of the command with which a process opens an account."""
    return f"{generation}.open.{account}"


def older(generation: int, callers: int) -> list[list[Older]]:
    """The commits of a log that 0.1 has left to this process: all accounts, opened by the commands that this process
    sends first, under the same ids. So each of those must be found in it, once, where 0.1 had put it.
    """
    left = [
        Older(Open(account), account, expected_events(name), name)
        for account in accounts(callers)
        for name in [opening(generation, account)]
    ]
    return [left[first : first + _OLDER_PER_COMMIT] for first in range(0, len(left), _OLDER_PER_COMMIT)]


def command(name: str) -> Command:
    """The command of that name, always the same one."""
    generation, caller, rest = name.split(".", 2)
    if caller == "open":
        return Open(rest)
    number, _, index = rest.partition(".")
    if index:
        return Deposit(own_account(int(caller)), int(index) + 1)
    chance = _mixed(int(generation), int(caller), int(number))
    role, amount = role_of(int(caller)), 1 + chance // 1_000 % 50
    first = chance % _POOL
    if role is Role.TRANSFER:
        return Transfer(_shared(first), _shared((first + 1 + chance // _POOL % (_POOL - 1)) % _POOL), amount)
    return Deposit(own_account(int(caller)) if role is Role.ASK else _shared(first), 2 * amount)


def batch(name: str) -> list[str]:
    """The names of the commands in the call of `execute_many` that has this name."""
    size = 1 + _mixed(*map(int, name.split("."))) % _BATCH_MAX
    return [f"{name}.{index}" for index in range(size)]


def has_id(name: str) -> bool:
    """Whether this command is sent with its name as its id; the others are deposits in a list without ids."""
    _, _, number, *index = name.split(".")
    return not index or int(number) % 2 == 1


def expected_events(name: str) -> list[dict[str, Any]]:
    """The events that a command leaves in the log if it is accepted, as JSON has them."""
    match command(name):
        case Open(account):
            return [{"type": "Opened", "account": account}]
        case Deposit(account, amount):
            return [{"type": "Deposited", "account": account, "amount": amount}]
        case Transfer(account, to, amount):
            return [
                {"type": "Withdrawn", "account": account, "amount": amount},
                {"type": "Deposited", "account": to, "amount": amount},
                *([{"type": "Billed", "account": account, "of": amount}] if is_billed(amount) else []),
            ]
        case other:
            raise ValueError(f"no caller sends {other!r}")


def name_in_log(record: Mapping[str, Any]) -> str:
    """The name of the command that a record in a commit's body is of."""
    if "id" in record:
        return str(record["id"])
    return f"{record['correlation']}.{record['events'][0]['amount'] - 1}"


def unanswered(answered: Iterable[str], generation: int, callers: int) -> list[str]:
    """Ids that a process may have sent without an answer: after each caller's last one that was answered.

    Args:
        answered: the names of all commands that were answered.
        generation: the process.
        callers: how many it had.
    """
    following = dict.fromkeys(range(callers), 0)
    for name in answered:
        of, caller, number = name.split(".")[:3]
        if of == str(generation) and caller != "open":
            following[int(caller)] = max(following[int(caller)], int(number) + 1)
    return [
        name
        for caller, first in following.items()
        for number in range(first, first + _AHEAD)
        for name in _sent(f"{generation}.{caller}.{number}")
        if has_id(name)
    ]


def _sent(name: str) -> list[str]:
    """What a caller sends under this number: a command, or a list of them."""
    return batch(name) if role_of(int(name.split(".")[1])) is Role.BATCH else [name]


def _shared(number: int) -> str:
    return f"all-{number}"


def _mixed(generation: int, caller: int, number: int) -> int:
    """A number that looks random and is the same for the same three: Knuth's multiplicative hash."""
    return ((generation * 1_000_003 + caller) * 10_007 + number) * 2_654_435_761 % 2**32 >> 4

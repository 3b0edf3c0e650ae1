"""What lies in a log that 0.1 has left to the first server: the history before all clients.

Its operations were accepted one commit after another, before the clock began. So what clients are answered must
fit them: versions and balances go on from there, and a command that is sent again under its id is answered with its
first receipt.

Here: pure functions. Not here: how the log is written (`millstream.bench.proofs.older`).
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import msgspec

from millstream.bench.proofs.histories.accounts import (
    Change,
    Deposit,
    Deposited,
    Open,
    Opened,
    Standing,
    Withdraw,
    Withdrawn,
)
from millstream.bench.proofs.histories.spec import Accepted, Again, Call, Sent
from millstream.bench.proofs.older import Older
from millstream.engine import Event
from millstream.engine.commits.commit import Commit

__all__ = ["Beginning", "beginning", "not_upgraded"]

_COMMANDS = 200
_COMMANDS_PER_COMMIT_MAX = 8
_DEPOSITS, _AMOUNT_MAX = 0.6, 1_000_000
#: One in so many was sent without an id.
_NAMELESS = 10


class Beginning(msgspec.Struct):
    """What was done before all clients."""

    history: list[Call] = []
    #: What that left in the log.
    commits: list[list[Older]] = []
    #: All of it that had an id, as clients are to send it again.
    again: list[Again] = []


def beginning(seed: int, accounts: Sequence[str]) -> Beginning:
    """Two hundred commands that were accepted, in commits of up to eight, each of which was under way at once.

    Args:
        seed: of the commands.
        accounts: those that they are on; each is opened.
    """
    random, begun, room = Random(f"{seed} beginning"), Beginning(), 0
    standings = dict.fromkeys(accounts, Standing())
    for number in range(_COMMANDS):
        if not room:
            begun.commits.append([])
            room = random.randint(1, _COMMANDS_PER_COMMIT_MAX)
        room -= 1
        account = accounts[number] if number < len(accounts) else random.choice(accounts)
        command, event, amount = _accepted(account, standings[account], random)
        standings[account] = standings[account].plus(amount)
        name, has_id = f"older.{number}", number % _NAMELESS != 0
        begun.commits[-1].append(
            Older(command, account, [msgspec.to_builtins(event)], name if has_id else None, correlation=name)
        )
        accepted = Accepted(standings[account].version, commit=len(begun.commits), position=number + 1)
        begun.history.append(_before(account, Sent(name, command), accepted))
        if has_id:
            begun.again.append(Again(name, command))
    return begun


def not_upgraded(commits: Sequence[Commit]) -> list[str]:
    """What is wrong with a log that should have begun in format 1 and gone on in today's: nothing, or one thing."""
    formats = "".join("2" if commit.body[:1] == b"{" else "1" for commit in commits)
    first, then = formats.count("1"), formats.count("2")
    if first and then and formats == first * "1" + then * "2":
        return []
    return [f"not a log that began in format 1 and was upgraded: {first} commits of format 1, {then} of format 2"]


def _before(account: str, sent: Sent, accepted: Accepted) -> Call:
    """An operation so long before the clock began that commits follow each other, the last of them before it, too."""
    invoked_at = float(accepted.commit - _COMMANDS - 1)
    return Call(
        client="0.1", key=account, asked=sent, output=accepted, invoked_at=invoked_at, returned_at=invoked_at + 0.5
    )


def _accepted(account: str, standing: Standing, random: Random) -> tuple[Change, Event, int]:
    """A command that the bank accepts as the account stands, its event, and by how much that changes the balance."""
    if not standing.version:
        return Open(account), Opened(account), 0
    if not standing.balance or random.random() < _DEPOSITS:
        amount = random.randint(1, _AMOUNT_MAX)
        return Deposit(account, amount), Deposited(account, amount), amount
    amount = random.randint(1, standing.balance)
    return Withdraw(account, amount), Withdrawn(account, amount), -amount

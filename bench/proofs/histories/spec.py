"""What clients of the bank are promised: what can be asked, what can come back, and when which of it is right.

`Account` says it for one account whose operations come one after another. It shares no code with the application, so
that a mistake there is not made here again. Here: pure values and functions.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from millstream.bench.proofs.histories.accounts import Change, Deposit, Open, Standing, StandingOf, Withdraw
from millstream.bench.proofs.histories.operations import Operation
from millstream.engine import Receipt, Rejected
from millstream.engine.application.messages import Answered

__all__ = [
    "Accepted",
    "Account",
    "Again",
    "Asked",
    "Call",
    "Came",
    "Denied",
    "Question",
    "Refused",
    "Repeated",
    "Sent",
    "Shown",
]


class Sent(msgspec.Struct, frozen=True, tag=True):
    """A command that was sent, under a name that no other one has. The log has it as its correlation."""

    name: str
    command: Change

    def __str__(self) -> str:
        return f"{self.command} as {self.name}"


class Again(msgspec.Struct, frozen=True, tag=True):
    """A command that was accepted before the history began, sent once more under its id."""

    name: str
    command: Change

    def __str__(self) -> str:
        return f"{self.command} again as {self.name}"


class Question(msgspec.Struct, frozen=True, tag=True):
    """A query that was asked, for an answer that is not older than this position."""

    query: StandingOf
    after: int

    def __str__(self) -> str:
        return f"{self.query} after {self.after}"


class Accepted(msgspec.Struct, frozen=True, tag=True):
    """A receipt: the account's version after the command, and where the log has it."""

    version: int
    commit: int
    position: int

    @classmethod
    def of(cls, receipt: Receipt) -> Accepted:
        """What a receipt says."""
        if receipt.version is None:
            raise ValueError(f"every command here has a key, and {receipt} has no version")
        return cls(receipt.version, receipt.commit, receipt.position)


class Repeated(msgspec.Struct, frozen=True, tag=True):
    """The receipt of a command that was there already: what `Accepted` said of it at that time."""

    version: int
    commit: int
    position: int


class Refused(msgspec.Struct, frozen=True, tag=True):
    """A rejection: why, and the standing on which it was decided, at which position; and how many events the bank had
    counted then, if it says so.
    """

    code: str
    standing: Standing
    position: int
    counted: int | None = None

    @classmethod
    def of(cls, rejection: Rejected) -> Refused:
        """What a rejection says."""
        if rejection.position is None:
            raise ValueError(f"every rejection of a command has a position, and {rejection!r} has none")
        details: Any = rejection.details
        standing = Standing(details["version"], details["balance"])
        return cls(rejection.code, standing, rejection.position, details["events"])


class Denied(msgspec.Struct, frozen=True, tag=True):
    """An error that promises that the command did not happen and will not, and says nothing of any state."""

    error: str


class Shown(msgspec.Struct, frozen=True, tag=True):
    """An answer: a standing, and at which position it was that."""

    standing: Standing
    position: int

    @classmethod
    def of(cls, answered: Answered[Standing]) -> Shown:
        """What an answer says."""
        return cls(answered.answer, answered.position)


Asked: TypeAlias = Sent | Again | Question
Came: TypeAlias = Accepted | Repeated | Refused | Denied | Shown
Call: TypeAlias = Operation[Asked, Came]


class Account:
    """One account as a sequential model: a `millstream.bench.proofs.histories.linear.Model`.

    It looks at standings and versions, and not at positions: those are not promised to an account by itself.
    """

    def first(self) -> Standing:
        """Not open."""
        return Standing()

    def apply(self, state: Standing, asked: Asked, output: Came | None) -> Standing | None:
        """The standing after an operation, or None if it can't have had this result."""
        if isinstance(asked, Question):
            fits = output is None or (isinstance(output, Shown) and output.standing == state)
            return state if fits else None
        if isinstance(asked, Again):
            return state if _fits_again(state, output) else None
        code, after = _decided(state, asked.command)
        match output:
            case None:
                return after
            case Accepted(version=version):
                return after if code is None and version == after.version else None
            case Denied():
                return state
            case Refused(code=told, standing=standing):
                return state if told == code and standing == state else None
        return None

    def only_looks(self, asked: Asked, output: Came | None) -> bool:
        """Whether it is a question, or has happened before, or nothing came of it."""
        return isinstance(asked, Question | Again) or isinstance(output, Refused | Denied)

    def too_late(self, state: Standing, asked: Asked, output: Came) -> bool:
        """Whether the account has passed the version that this came of: versions only grow."""
        match output:
            case Accepted(version=version):
                return state.version >= version
            case Refused(standing=standing) | Shown(standing=standing):
                return state.version > standing.version or (state.version == standing.version and state != standing)
        return False


def _fits_again(state: Standing, output: Came | None) -> bool:
    """Whether this can come of a command that has happened: its first receipt, or an error that says nothing."""
    match output:
        case Repeated(version=version):
            return 0 < version <= state.version
        case None | Denied():
            return True
    return False


def _decided(state: Standing, command: Change) -> tuple[str | None, Standing]:
    """Why a command is refused, or None; and the standing after it."""
    match command:
        case Open():
            refusal, change = ("account_exists" if state.version else None), 0
        case Deposit(amount=amount):
            refusal, change = (None if state.version else "no_such_account"), amount
        case Withdraw(amount=amount):
            refusal, change = _missing(state, amount), -amount
    return (refusal, state) if refusal else (None, Standing(state.version + 1, state.balance + change))


def _missing(state: Standing, amount: int) -> str | None:
    if not state.version:
        return "no_such_account"
    return "insufficient_funds" if state.balance < amount else None

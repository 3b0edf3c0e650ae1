"""What all clients were answered, as it comes in: one list, one clock, one newest position.

Here: what is made of an outcome or an error. Not here: asking (`clients`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from millstream.bench.proofs.histories.accounts import Standing
from millstream.bench.proofs.histories.spec import (
    Accepted,
    Again,
    Asked,
    Call,
    Came,
    Denied,
    Question,
    Refused,
    Repeated,
    Shown,
)
from millstream.engine import (
    CommitFailed,
    ConnectionLost,
    DeadlineExceeded,
    EngineClosed,
    LimitReached,
    MillstreamError,
    Overloaded,
    Receipt,
    Rejected,
    StorageError,
    TryAgainLater,
)
from millstream.engine.application.messages import Answered
from millstream.engine.loop.clock import elapsed

__all__ = ["Record"]

#: What promises that nothing happened and nothing will.
_DENIALS = (CommitFailed, EngineClosed, LimitReached, Overloaded)


class Record:
    """A history as it grows.

    Args:
        tokens: whether questions are asked with what is known; without, stale answers are to be expected, and found.
        before: what was done, and answered, before all clients: the history begins with it.
    """

    def __init__(self, *, tokens: bool = True, before: Sequence[Call] = ()) -> None:
        self.history: list[Call] = [*before]
        #: How many of it were before all clients.
        self.before = len(before)
        #: The newest position that any client was given, in a receipt, a refusal or an answer.
        self.position = max((_told(each.output) for each in before), default=0)
        #: How often which error came.
        self.errors: Counter[str] = Counter()
        #: Errors that no crash explains, in words.
        self.unexpected: list[str] = []
        #: Receipts that said that the command was there already.
        self.repeated = 0
        self._tokens = tokens
        self._began = elapsed()
        self._at_answer: Callable[[], None] | None = None

    @property
    def token(self) -> int:
        """What the next question is to be asked after."""
        return self.position if self._tokens else 0

    def now(self) -> float:
        """The time, in seconds since the record began: the one clock of a history."""
        return elapsed() - self._began

    def at_next_answer(self, act: Callable[[], None]) -> None:
        """Do something at the moment at which the next answer comes."""
        self._at_answer = act

    def answered(self, client: str, asked: Asked, invoked_at: float, answer: Receipt | Answered[Standing]) -> None:
        """An answer has come just now."""
        if not isinstance(answer, Receipt):
            self._returned(client, asked, invoked_at, Shown.of(answer))
            return
        came: Accepted | Repeated = Accepted.of(answer)
        if isinstance(asked, Again) and answer.repeated:
            came = Repeated(came.version, came.commit, came.position)
        else:
            self.repeated += answer.repeated
        self._returned(client, asked, invoked_at, came)

    def failed(self, client: str, asked: Asked, invoked_at: float, error: BaseException) -> None:
        """An error has come just now."""
        if isinstance(error, Rejected) and error.position is not None:
            self._returned(client, asked, invoked_at, Refused.of(error))
            return
        self.errors[type(error).__name__] += 1
        if not isinstance(error, TryAgainLater | StorageError) and isinstance(error, MillstreamError):
            self.unexpected.append(f"{asked}: {error!r}")
        if not isinstance(asked, Question) and _denies(error):
            self._returned(client, asked, invoked_at, Denied(type(error).__name__))
        else:
            self._add(client, asked, invoked_at, None, None)

    def _returned(self, client: str, asked: Asked, invoked_at: float, output: Came) -> None:
        act, self._at_answer = self._at_answer, None
        if act is not None:
            act()
        self._add(client, asked, invoked_at, output, self.now())
        self.position = max(self.position, _told(output))

    def _add(
        self, client: str, asked: Asked, invoked_at: float, output: Came | None, returned_at: float | None
    ) -> None:
        key = asked.query.account if isinstance(asked, Question) else asked.command.account
        self.history.append(
            Call(client=client, key=key, asked=asked, output=output, invoked_at=invoked_at, returned_at=returned_at)
        )


def _told(output: Came | None) -> int:
    """The position that this gave its client; 0 for none."""
    return 0 if output is None or isinstance(output, Denied) else output.position


def _denies(error: BaseException) -> bool:
    if isinstance(error, DeadlineExceeded):
        return not error.decided
    if isinstance(error, ConnectionLost):
        return not error.sent
    return isinstance(error, _DENIALS)

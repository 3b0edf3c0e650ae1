"""The same request may succeed later."""

from __future__ import annotations

from millstream.engine.errors.root import TryAgainLater

__all__ = [
    "ConnectionLost",
    "DeadlineExceeded",
    "EngineClosed",
    "LimitReached",
    "NotLeader",
    "NotYetVisible",
    "Overloaded",
    "ViewBehind",
    "ViewUnavailable",
    "WatchOverrun",
    "WatchesFull",
    "WriterUnavailable",
]


class Overloaded(TryAgainLater):
    """The mailbox is full, and the caller asked not to wait. The command was not taken.

    With ``waiting_bytes`` it is full by the bytes of the large commands that came over sockets.
    """

    def __init__(
        self,
        waiting: int,
        mailbox_commands_max: int,
        waiting_bytes: int | None = None,
        mailbox_bytes_max: int | None = None,
    ) -> None:
        super().__init__(waiting, mailbox_commands_max, waiting_bytes, mailbox_bytes_max)
        self.waiting = waiting
        self.mailbox_commands_max = mailbox_commands_max
        self.waiting_bytes = waiting_bytes
        self.mailbox_bytes_max = mailbox_bytes_max

    def __str__(self) -> str:
        if self.waiting_bytes is None or self.mailbox_bytes_max is None:
            full = f"{self.waiting:,} commands wait, mailbox_commands_max={self.mailbox_commands_max:,}"
        else:
            full = f"{self.waiting_bytes:,} bytes of large commands wait, mailbox_bytes_max={self.mailbox_bytes_max:,}"
        return f"the mailbox is full: {full}; try again later, or let execute() wait"


class DeadlineExceeded(TryAgainLater):
    """The time that the caller gave ran out.

    ``decided`` tells what became of the command. False: it never executed and never will. True: it was decided
    in time and is being written; it stands unless the store fails.
    """

    def __init__(self, command: str, timeout_seconds: float, *, decided: bool) -> None:
        super().__init__(command, timeout_seconds, decided)
        self.command = command
        self.timeout_seconds = timeout_seconds
        self.decided = decided

    def __str__(self) -> str:
        if self.decided:
            return (
                f"{self.command} was decided but not yet durable after {self.timeout_seconds:g} s; "
                "it stands once its commit is written: look before sending it again"
            )
        return f"{self.command} still waited after {self.timeout_seconds:g} s and was not executed; it is safe to retry"


class ViewBehind(TryAgainLater):
    """As many queries as are allowed already wait for this view to catch up."""

    def __init__(self, view: str, position: int, waiting: int, view_waiters_max: int) -> None:
        super().__init__(view, position, waiting, view_waiters_max)
        self.view = view
        self.position = position
        self.waiting = waiting
        self.view_waiters_max = view_waiters_max

    def __str__(self) -> str:
        return (
            f"view {self.view} is at position {self.position:,} and {self.waiting:,} queries already wait for it, "
            f"view_waiters_max={self.view_waiters_max:,}; try again later, or ask without after="
        )


class NotYetVisible(TryAgainLater):
    """The view did not reach ``after`` in time. A write with a receipt stands all the same."""

    def __init__(self, view: str, position: int, after: int, timeout_seconds: float) -> None:
        super().__init__(view, position, after, timeout_seconds)
        self.view = view
        self.position = position
        self.after = after
        self.timeout_seconds = timeout_seconds

    def __str__(self) -> str:
        return (
            f"view {self.view} is at position {self.position:,} and did not reach {self.after:,} within "
            f"{self.timeout_seconds:g} s: ask again with the same token; "
            "a position that no receipt and no answer has named may never come"
        )


class WriterUnavailable(TryAgainLater):
    """The writer can't decide now: after a store failure its state is not rebuilt yet, or it stopped for good."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"the writer takes no commands: {self.reason}; views still answer"


class EngineClosed(TryAgainLater):
    """The engine is not open: the command or query was not taken, and nothing of it happened."""

    def __init__(self, state: str) -> None:
        super().__init__(state)
        self.state = state

    def __str__(self) -> str:
        return f"the engine is {self.state}; use it inside 'async with Engine(app, log=…) as engine:'"


class ConnectionLost(TryAgainLater):
    """The server can't be reached, or went away. ``sent`` tells whether a command may have arrived, and be executed.

    A question changes nothing, so it is never in doubt. Under the same id it is safe to send a command again.
    """

    def __init__(self, address: str, problem: str, sent: bool) -> None:
        super().__init__(address, problem, sent)
        self.address = address
        self.problem = problem
        self.sent = sent

    def __str__(self) -> str:
        if self.sent:
            doubt = "the command may have happened: look, or send it again under the same command_id"
        else:
            doubt = "nothing happened: it is safe to retry"
        return f"no connection to {self.address}: {self.problem}; {doubt}"


class LimitReached(TryAgainLater):
    """A bound of the server or the client is reached: ``limit`` is its name in `ServerLimits`, `ClientLimits` or
    `Limits`.

    With ``held`` it is one that all connections share, and this one has that much of it: its share. It may have no
    more than is left to all others.
    """

    def __init__(self, limit: str, value: int | float, held: int | None = None) -> None:
        super().__init__(limit, value, held)
        self.limit = limit
        self.value = value
        self.held = held

    def __str__(self) -> str:
        if self.limit.startswith("cascade_"):
            return (
                f"the limit {self.limit}={self.value:,} is reached by what follows from one command: let it send less, "
                "or raise the limit"
            )
        if self.held is None:
            return f"the limit {self.limit}={self.value:,} is reached: end something, or try again later"
        return (
            f"this connection has its share of the limit {self.limit}={self.value:,}: {self.held:,}, and no more are "
            "left to all others; end something, or try again later"
        )


class NotLeader(TryAgainLater):
    """This process answers queries only; commands go to the writer, at ``address`` if it is known."""

    def __init__(self, address: str | None) -> None:
        super().__init__(address)
        self.address = address

    def __str__(self) -> str:
        where = "whose address it was not given" if self.address is None else f"at {self.address}"
        return f"this process does not write, and takes no commands: send them to the writer, {where}"


class ViewUnavailable(TryAgainLater):
    """The database of a view can't be asked or written now: it is locked, full, or out of reach."""

    def __init__(self, view: str, problem: str) -> None:
        super().__init__(view, problem)
        self.view = view
        self.problem = problem

    def __str__(self) -> str:
        return f"the database of view {self.view} can't be used now: {self.problem}; try again later"


class WatchOverrun(TryAgainLater):
    """A watcher of every change did not take them in time. All up to ``position`` were given.

    With ``watch_answers_bytes_max`` that was reached: by this watch alone, or with others of the view.
    """

    def __init__(
        self, view: str, position: int, watch_answers_max: int, watch_answers_bytes_max: int | None = None
    ) -> None:
        super().__init__(view, position, watch_answers_max, watch_answers_bytes_max)
        self.view = view
        self.position = position
        self.watch_answers_max = watch_answers_max
        self.watch_answers_bytes_max = watch_answers_bytes_max

    def __str__(self) -> str:
        if self.watch_answers_bytes_max is None:
            waited = f"watch_answers_max={self.watch_answers_max:,} answers waited"
        else:
            waited = f"its share of watch_answers_bytes_max={self.watch_answers_bytes_max:,} waited in answers"
        return (
            f"a watch of view {self.view} fell behind: {waited}, "
            f"the last of them at position {self.position:,}; watch again, or without every=True"
        )


class WatchesFull(TryAgainLater):
    """As many watches as are allowed are open already."""

    def __init__(self, watches: int, watches_max: int) -> None:
        super().__init__(watches, watches_max)
        self.watches = watches
        self.watches_max = watches_max

    def __str__(self) -> str:
        return f"{self.watches:,} watches are open, watches_max={self.watches_max:,}: end some, or try again later"

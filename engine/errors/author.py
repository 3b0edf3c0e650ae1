"""The application's author must change its code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from millstream.engine.errors.root import AuthorError
from millstream.engine.errors.unreadable import UnreadableEvent

__all__ = [
    "AgendaUnreadable",
    "AnswerFailed",
    "AnswerUnreadable",
    "ApplyFailed",
    "DefinitionError",
    "EventsUnreadable",
    "HandlerFailed",
    "ImpureHandler",
    "SnapshotMismatch",
    "ViewFaulted",
    "ViewIncomplete",
    "WrongLoop",
]


class DefinitionError(AuthorError):
    """A message, a model, a view or an application contradicts itself; ``places`` names both ends of it."""

    def __init__(self, problem: str, *places: str) -> None:
        super().__init__(problem, *places)
        self.problem = problem
        self.places = places

    def __str__(self) -> str:
        return f"{self.problem} ({' and '.join(self.places)})" if self.places else self.problem


class HandlerFailed(AuthorError):
    """A handler raised something that is not ``Rejected``. Nothing changed. ``__cause__`` holds what it raised."""

    def __init__(self, handler: str, command: str, problem: str) -> None:
        super().__init__(handler, command, problem)
        self.handler = handler
        self.command = command
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.handler} failed on {self.command}: {self.problem}; nothing changed, the handler needs mending"


class ImpureHandler(AuthorError):
    """A handler or an answer changed the state that it may only read (found because ``check_purity`` is on)."""

    def __init__(self, function: str, message_type: str) -> None:
        super().__init__(function, message_type)
        self.function = function
        self.message_type = message_type

    def __str__(self) -> str:
        return (
            f"{self.function} changed its state while handling {self.message_type}; "
            "only @applies methods may: yield an event and change the state when it is applied"
        )


class ApplyFailed(AuthorError):
    """A write model raised while applying an event. The event was not written; the state was rebuilt without it."""

    def __init__(self, model: str, event: str, position: int, problem: str) -> None:
        super().__init__(model, event, position, problem)
        self.model = model
        self.event = event
        self.position = position
        self.problem = problem

    def __str__(self) -> str:
        return (
            f"{self.model} can't apply {self.event} at position {self.position:,}: {self.problem}; "
            "an @applies method must accept every event that its handlers yield"
        )


class AnswerFailed(AuthorError):
    """A view raised while answering. ``__cause__`` holds what it raised; the view goes on."""

    def __init__(self, view: str, query: str, problem: str) -> None:
        super().__init__(view, query, problem)
        self.view = view
        self.query = query
        self.problem = problem

    def __str__(self) -> str:
        return f"view {self.view} failed to answer {self.query}: {self.problem}; the view needs mending"


class AnswerUnreadable(AuthorError):
    """A command was executed, and its answer is none of the type that its class promises today.

    It stands: ``receipt`` is its receipt, without the answer, and this is a token as that is.
    """

    def __init__(self, command: str, problem: str, receipt: Any) -> None:
        super().__init__(command, problem, receipt)
        self.command = command
        self.problem = problem
        self.receipt = receipt

    @property
    def position(self) -> int | None:
        """The receipt's."""
        return getattr(self.receipt, "position", None)

    def __str__(self) -> str:
        return (
            f"{self.command} was executed, and its answer can't be read: {self.problem}; take the receipt that this "
            "error holds, or let the class promise what was answered then, too"
        )


class ViewFaulted(AuthorError):
    """A view raised while applying the event at ``position`` and answers no more; all others go on."""

    def __init__(self, view: str, position: int, cause: BaseException) -> None:
        super().__init__(view, position, cause)
        self.view = view
        self.position = position
        self.cause = cause

    def __str__(self) -> str:
        return (
            f"view {self.view} faulted at position {self.position:,}: {self.cause!r}; "
            "mend the view and open the engine again, which rebuilds it from the log"
        )


class SnapshotMismatch(AuthorError):
    """A snapshot does not fit. Inside the engine it leads to a rebuild from the log, never to a failure."""

    def __init__(self, part: str, problem: str) -> None:
        super().__init__(part, problem)
        self.part = part
        self.problem = problem

    def __str__(self) -> str:
        return f"the snapshot of {self.part} does not fit: {self.problem}; the log makes the state again"


class ViewIncomplete(AuthorError):
    """The view has parked or skipped events that it could not apply. ``answer`` is its answer without them, to
    ``query``.
    """

    def __init__(self, view: str, query: str, position: int, parked: int, skipped: int, answer: Any) -> None:
        super().__init__(view, query, position, parked, skipped, answer)
        self.view = view
        self.query = query
        self.position = position
        self.parked = parked
        self.skipped = skipped
        self.answer = answer

    def __str__(self) -> str:
        return (
            f"view {self.view} at position {self.position:,} has left out {self.parked:,} parked and {self.skipped:,} "
            "skipped events; take its answer with ask(…, incomplete=True), or mend the view and replay_parked()"
        )


class EventsUnreadable(AuthorError):
    """The log holds events that today's application can't read; ``events`` has a line for each kind of them."""

    def __init__(self, log: str, app: str, events: Sequence[UnreadableEvent]) -> None:
        super().__init__(log, app, events)
        self.log = log
        self.app = app
        self.events = events

    def __str__(self) -> str:
        kinds = "; ".join(map(str, self.events))
        return (
            f"log {self.log} holds events that application {self.app!r} can't read: {kinds}. Give App(retired=…) a "
            "Retired class for each: what it means today, or nothing any more"
        )


class AgendaUnreadable(AuthorError):
    """Timers of this log send commands that the application does not know. It was not opened.

    ``commands`` is how many there are, by type.
    """

    def __init__(self, log: str, app: str, commands: dict[str, int]) -> None:
        super().__init__(log, app, commands)
        self.log = log
        self.app = app
        self.commands = commands

    def __str__(self) -> str:
        named = ", ".join(f"{count:,} of {name!r}" for name, count in self.commands.items())
        return (
            f"application {self.app!r} does not know commands that timers of {self.log} send: {named}; describe them "
            "with App(retired=…), or park or drop them: `millstream agenda list` names them"
        )


class WrongLoop(AuthorError):
    """Something is used on another event loop, in another thread or in another process than it was opened in.

    Nothing was taken, and nothing of it happened.
    """

    def __init__(self, what: str, opened_on: str, used_on: str) -> None:
        super().__init__(what, opened_on, used_on)
        self.what = what
        self.opened_on = opened_on
        self.used_on = used_on

    def __str__(self) -> str:
        return (
            f"{self.what} was opened on {self.opened_on}, and is used on {self.used_on}; nothing was taken: open it on "
            "the loop that uses it, or get to its loop with asyncio.run_coroutine_threadsafe or anyio.from_thread.run"
        )

"""Every error that penstock raises on purpose, split by who must act.

    PenstockError
    ├── CallerError              the caller must change the request
    │   ├── Rejected                 the application's rules said no
    │   ├── InvalidMessage           a field has the wrong type, is out of bounds, or is not known
    │   ├── UnknownMessage           no handler, no view or no event of that name in this application
    │   ├── VersionConflict          the key is not at the version that the caller expected
    │   ├── CommandIdReused          the id belongs to another command
    │   └── CommitTooLarge           one command's events exceed what a commit may hold
    ├── TryAgainLater            the same request may succeed later
    │   ├── Overloaded               the mailbox is full and the caller won't wait
    │   ├── DeadlineExceeded         the time given ran out
    │   ├── ViewBehind               too many queries already wait for this view
    │   ├── NotYetVisible            the view has not reached the position that the query asked for
    │   ├── WriterUnavailable        the writer can't decide: its state is not rebuilt yet, or it stopped
    │   └── EngineClosed             the engine is not open (any more)
    ├── StorageError             whoever looks after the store must look
    │   ├── CommitFailed             the commit was not written: nothing of it happened
    │   ├── OutcomeUnknown           the store failed and could not be asked whether the commit is there
    │   ├── LogCorrupt               what the store holds is not what was written
    │   ├── LogRefused               the store is not ours, from a newer format, or of another application
    │   ├── LogLocked                another writer has this log open
    │   └── Fenced                   another writer has appended: this one is stale
    └── AuthorError              the application's author must change its code
        ├── DefinitionError          a message, a model, a view or an app contradicts itself
        ├── HandlerFailed            a handler raised something that is not a rejection
        ├── ImpureHandler            a handler or an answer changed the state it may only read
        ├── ApplyFailed              a write model could not apply an event
        ├── AnswerFailed             a view raised while answering
        ├── ViewFaulted              a view could not apply an event and answers no more
        ├── SnapshotMismatch         a snapshot does not fit the state that it is to be restored to
        ├── ViewIncomplete           a view left out events that it could not apply, as its policy says
        └── EventsUnreadable         the log holds events that today's application can't read

Each keeps its values as fields and renders its text itself: the thing, the state, the limit, the next step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from penstock.engine.messages import UnreadableEvent

__all__ = [
    "AnswerFailed",
    "ApplyFailed",
    "AuthorError",
    "CallerError",
    "CommandIdReused",
    "CommitFailed",
    "CommitTooLarge",
    "DeadlineExceeded",
    "DefinitionError",
    "EngineClosed",
    "EventsUnreadable",
    "Fenced",
    "HandlerFailed",
    "ImpureHandler",
    "InvalidMessage",
    "LogCorrupt",
    "LogLocked",
    "LogRefused",
    "NotYetVisible",
    "OutcomeUnknown",
    "Overloaded",
    "PenstockError",
    "Rejected",
    "SnapshotMismatch",
    "StorageError",
    "TryAgainLater",
    "UnknownMessage",
    "VersionConflict",
    "ViewBehind",
    "ViewFaulted",
    "ViewIncomplete",
    "WriterUnavailable",
]


class PenstockError(Exception):
    """The root: ``except PenstockError`` catches all that penstock raises on purpose, and nothing else."""


class CallerError(PenstockError):
    """The request itself is at fault; the same request will fail again."""


class TryAgainLater(PenstockError):
    """The request is fine; the moment is not."""


class StorageError(PenstockError):
    """The log could not do its part."""


class AuthorError(PenstockError):
    """The application's code is at fault."""


class Rejected(CallerError):
    """A rule of the application said no. Raised by handlers; nothing changes, and nothing is written.

    ``code`` is for programs (stable, like ``"no_such_account"``), ``message`` for people, ``details`` for both:
    a mapping of whatever JSON can hold.
    """

    def __init__(self, code: str, message: str = "", details: Mapping[str, Any] | None = None) -> None:
        super().__init__(code, message, details)
        self.code = code
        self.message = message
        self.details: Mapping[str, Any] = details or {}

    def __str__(self) -> str:
        return f"{self.code}: {self.message}" if self.message else self.code


class InvalidMessage(CallerError):
    """A message is not what its class declares: wrong type, out of bounds, or a field that is not known."""

    def __init__(self, message_type: str, problem: str) -> None:
        super().__init__(message_type, problem)
        self.message_type = message_type
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.message_type} is not valid: {self.problem}"


class UnknownMessage(CallerError):
    """No part of the application knows this message. ``known`` names those of its kind that are known."""

    def __init__(self, kind: str, message_type: str, app: str, known: tuple[str, ...] = (), place: str = "") -> None:
        super().__init__(kind, message_type, app, known, place)
        self.kind = kind
        self.message_type = message_type
        self.app = app
        self.known = known
        self.place = place

    def __str__(self) -> str:
        where = f" ({self.place})" if self.place else ""
        known = ", ".join(self.known) or "none"
        return f"application {self.app!r} has no {self.kind} {self.message_type!r}{where}; it has: {known}"


class VersionConflict(CallerError):
    """The key is not at the version that the caller expected. The command was not decided, and nothing changed."""

    def __init__(self, key: str, expected: int, actual: int) -> None:
        super().__init__(key, expected, actual)
        self.key = key
        self.expected = expected
        self.actual = actual

    def __str__(self) -> str:
        return (
            f"key {self.key!r} is at version {self.actual:,}, not at {self.expected:,}: "
            "somebody changed it since; look again and decide anew"
        )


class CommandIdReused(CallerError):
    """The command id belongs to another command, which is in the log. Nothing changed."""

    def __init__(self, command_id: str, command: str, commit: int) -> None:
        super().__init__(command_id, command, commit)
        self.command_id = command_id
        self.command = command
        self.commit = commit

    def __str__(self) -> str:
        return (
            f"command id {self.command_id!r} belongs to a command with another content, in commit {self.commit:,}: "
            f"this {self.command} was not executed; give it an id of its own"
        )


class CommitTooLarge(CallerError):
    """One command yielded more than a commit may hold; nothing of it was applied."""

    def __init__(self, command: str, size_bytes: int, commit_bytes_max: int) -> None:
        super().__init__(command, size_bytes, commit_bytes_max)
        self.command = command
        self.size_bytes = size_bytes
        self.commit_bytes_max = commit_bytes_max

    def __str__(self) -> str:
        return (
            f"{self.command} yielded {self.size_bytes:,} bytes of events; a commit holds at most "
            f"commit_bytes_max={self.commit_bytes_max:,}: split the command, or raise the limit"
        )


class Overloaded(TryAgainLater):
    """The mailbox is full, and the caller asked not to wait. The command was not taken."""

    def __init__(self, waiting: int, mailbox_commands_max: int) -> None:
        super().__init__(waiting, mailbox_commands_max)
        self.waiting = waiting
        self.mailbox_commands_max = mailbox_commands_max

    def __str__(self) -> str:
        return (
            f"the mailbox is full: {self.waiting:,} commands wait, mailbox_commands_max="
            f"{self.mailbox_commands_max:,}; try again later, or let execute() wait"
        )


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
    """The view did not reach ``after`` in time. The write that the token stands for is not in doubt."""

    def __init__(self, view: str, position: int, after: int, timeout_seconds: float) -> None:
        super().__init__(view, position, after, timeout_seconds)
        self.view = view
        self.position = position
        self.after = after
        self.timeout_seconds = timeout_seconds

    def __str__(self) -> str:
        return (
            f"view {self.view} is at position {self.position:,} and did not reach {self.after:,} within "
            f"{self.timeout_seconds:g} s; the write itself stands: ask again with the same token"
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


class CommitFailed(StorageError):
    """The store did not take the commit: none of its commands happened. ``__cause__`` holds the store's own error."""

    def __init__(self, commit: int, problem: str) -> None:
        super().__init__(commit, problem)
        self.commit = commit
        self.problem = problem

    def __str__(self) -> str:
        return f"commit {self.commit:,} was not written: {self.problem}; nothing of it happened, it is safe to retry"


class OutcomeUnknown(StorageError):
    """The store failed while writing, and failed again when asked whether the commit is there."""

    def __init__(self, commit: int, problem: str) -> None:
        super().__init__(commit, problem)
        self.commit = commit
        self.problem = problem

    def __str__(self) -> str:
        return (
            f"it is not known whether commit {self.commit:,} was written: {self.problem}; "
            "open the log again and look before sending the command again"
        )


class LogCorrupt(StorageError):
    """What the store holds is not what was written. ``commit`` is the first one that can't be trusted."""

    def __init__(self, log: str, commit: int, problem: str) -> None:
        super().__init__(log, commit, problem)
        self.log = log
        self.commit = commit
        self.problem = problem

    def __str__(self) -> str:
        whole = f"commits 1 to {self.commit - 1:,} are whole" if self.commit > 1 else "no commit before it"
        return f"log {self.log} is damaged at commit {self.commit:,}: {self.problem}; {whole}: restore a backup"


class LogRefused(StorageError):
    """The store holds something else than this application's log in a format that we read."""

    def __init__(self, log: str, problem: str, next_step: str) -> None:
        super().__init__(log, problem, next_step)
        self.log = log
        self.problem = problem
        self.next_step = next_step

    def __str__(self) -> str:
        return f"log {self.log} is refused: {self.problem}; {self.next_step}"


class LogLocked(StorageError):
    """Another writer has the log open, in this process or in another."""

    def __init__(self, log: str) -> None:
        super().__init__(log)
        self.log = log

    def __str__(self) -> str:
        return f"log {self.log} is open in another writer, and there can be one only: close that one first"


class Fenced(StorageError):
    """Another writer appended to the log after this one: this one is stale, and nothing it decided was written."""

    def __init__(self, log: str, commit: int, head: int) -> None:
        super().__init__(log, commit, head)
        self.log = log
        self.commit = commit
        self.head = head

    def __str__(self) -> str:
        return (
            f"log {self.log} has its head at commit {self.head:,}, so commit {self.commit:,} does not follow: "
            "another writer has taken over, this one has stopped"
        )


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
    """The view has parked or skipped events that it could not apply. ``answer`` is its answer without them."""

    def __init__(self, view: str, position: int, parked: int, skipped: int, answer: Any) -> None:
        super().__init__(view, position, parked, skipped, answer)
        self.view = view
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

"""The caller must change the request."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any, TypeAlias

import msgspec

from millstream.engine.errors.root import CallerError

__all__ = [
    "AnswerTooLarge",
    "CommandIdReused",
    "CommitTooLarge",
    "InvalidMessage",
    "NotAuthenticated",
    "NotKept",
    "NotOnAgenda",
    "NotPermitted",
    "ProtocolViolated",
    "Rejected",
    "UnknownMessage",
    "VersionConflict",
    "WrongShard",
]

#: A place in the log: what comes from elsewhere is not believed to be below 0.
_Position: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Rejected(CallerError):
    """A rule of the application said no. Raised by handlers; nothing changes, and nothing is written.

    ``code`` is for programs (stable, like ``"no_such_account"``), ``message`` for people, ``details`` for both:
    a mapping of whatever JSON can hold. ``position`` is that of the last event before the decision, and durable when
    the caller gets it, so the rejection is a token: ``ask(query, after=rejection)`` sees the state that said no.
    It is the writer who says it; a handler leaves it out. None in a preview.
    """

    position: _Position | None = None

    def __init__(
        self,
        code: str,
        message: str = "",
        details: Mapping[str, Any] | None = None,
        position: _Position | None = None,
    ) -> None:
        own = None if details is None else _own(details)
        super().__init__(code, message, own)
        self.code = code
        self.message = message
        #: Copies: what a handler tells of its state is not the state.
        self.details: Mapping[str, Any] = own or {}
        if position is not None:  # else the class says None: an application's own class may mean another thing by it
            self.position = position

    def __str__(self) -> str:
        return f"{self.code}: {self.message}" if self.message else self.code


def _own(value: Any) -> Any:
    """A copy of what JSON can hold and can change; what is nested too deeply to be copied is given as it is."""
    try:
        return _copied(value)
    except RecursionError:
        return value


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _copied(each) for name, each in value.items()}
    if isinstance(value, list | set):
        return type(value)(map(_copied, value))
    return tuple(map(_copied, value)) if type(value) is tuple else value


class NotOnAgenda(CallerError):
    """Nothing of that name is owed, waits for its time, or is parked: it never was, or it is settled."""

    def __init__(self, entry: str, entries: _Position) -> None:
        super().__init__(entry, entries)
        self.entry = entry
        self.entries = entries

    def __str__(self) -> str:
        return (
            f"the agenda has no {self.entry!r}; it holds {self.entries:,}: "
            "agenda.entries() or `millstream agenda list` names them"
        )


class InvalidMessage(CallerError):
    """A message is not what its class declares: wrong type, out of bounds, or a field that is not known."""

    def __init__(self, message_type: str, problem: str) -> None:
        super().__init__(message_type, problem)
        self.message_type = message_type
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.message_type} is not valid: {self.problem}"


class WrongShard(CallerError):
    """Of several logs of one application, apart by key, this is not the one. Nothing was done.

    ``what`` is a key that belongs to another one, or a server, or a token, that stands for another one.
    """

    def __init__(self, what: str, problem: str) -> None:
        super().__init__(what, problem)
        self.what = what
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.what} is at the wrong shard: {self.problem}"


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
        meant = get_close_matches(self.message_type, self.known, n=1)
        guess = f", but {meant[0]!r}" if meant and meant[0] != self.message_type else ""
        return f"application {self.app!r} has no {self.kind} {self.message_type!r}{where}{guess}; it has: {known}"


class VersionConflict(CallerError):
    """The key is not at the version that the caller expected. The command was not decided, and nothing changed.

    It is at ``actual`` at ``position``, which makes this a token: a read ``after=`` it sees that version.
    """

    def __init__(self, key: str, expected: int, actual: int, position: _Position | None = None) -> None:
        super().__init__(key, expected, actual)
        self.key = key
        self.expected = expected
        self.actual = actual
        self.position = position

    def __str__(self) -> str:
        return (
            f"key {self.key!r} is at version {self.actual:,}, not at {self.expected:,}: "
            "it was changed since; look again and decide anew"
        )


class CommandIdReused(CallerError):
    """The command id belongs to another command, which is in the log. Nothing changed.

    At ``position`` that one is there, which makes this a token: a read ``after=`` it sees what that command did.
    """

    def __init__(self, command_id: str, command: str, commit: int, position: _Position | None = None) -> None:
        super().__init__(command_id, command, commit)
        self.command_id = command_id
        self.command = command
        self.commit = commit
        self.position = position

    def __str__(self) -> str:
        return (
            f"command id {self.command_id!r} belongs to a command with another content or actor, in commit "
            f"{self.commit:,}: this {self.command} was not executed; give it an id of its own"
        )


class CommitTooLarge(CallerError):
    """One command needs more room than a commit has; nothing of it was applied.

    ``size_bytes`` counts its events and timers, at most 16 kB for what the commit says beside them, and where they have
    reactions ``cascade_bytes_max``, which is kept free for what follows.
    """

    def __init__(self, command: str, size_bytes: int, commit_bytes_max: int) -> None:
        super().__init__(command, size_bytes, commit_bytes_max)
        self.command = command
        self.size_bytes = size_bytes
        self.commit_bytes_max = commit_bytes_max

    def __str__(self) -> str:
        return (
            f"{self.command} needs {self.size_bytes:,} bytes of a commit, which holds at most "
            f"commit_bytes_max={self.commit_bytes_max:,}: split the command, or raise the limit"
        )


class AnswerTooLarge(CallerError):
    """One command's answer has more bytes than one may have; nothing of the command was applied."""

    def __init__(self, command: str, size_bytes: int, answer_bytes_max: int) -> None:
        super().__init__(command, size_bytes, answer_bytes_max)
        self.command = command
        self.size_bytes = size_bytes
        self.answer_bytes_max = answer_bytes_max

    def __str__(self) -> str:
        return (
            f"the answer of {self.command} has {self.size_bytes:,} bytes; one has at most "
            f"answer_bytes_max={self.answer_bytes_max:,}: ask for less, let a query answer it, or raise the limit"
        )


class NotKept(CallerError):
    """What was asked of a view is not to be had of one whose state lies in a database."""

    def __init__(self, view: str, what: str, instead: str) -> None:
        super().__init__(view, what, instead)
        self.view = view
        self.what = what
        self.instead = instead

    def __str__(self) -> str:
        return f"view {self.view} keeps its state in a database, which has no {self.what}: {self.instead}"


class NotAuthenticated(CallerError):
    """The server wants a token and got none that it knows. Which ones it knows, it does not say."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return f"not authenticated: {self.problem}; call authenticate with a token first, or give Client(token=…)"


class NotPermitted(CallerError):
    """The role that the token stands for may not do this."""

    def __init__(self, method: str, role: str) -> None:
        super().__init__(method, role)
        self.method = method
        self.role = role

    def __str__(self) -> str:
        return f"role {self.role!r} may not call {self.method!r}: use a token of a role that may"


class ProtocolViolated(CallerError):
    """What was sent is not a request of the protocol. ``code`` is the one that JSON-RPC 2.0 has for it."""

    def __init__(self, code: int, problem: str) -> None:
        super().__init__(code, problem)
        self.code = code
        self.problem = problem

    def __str__(self) -> str:
        return self.problem

"""Who may do what: tokens, the roles they stand for, and what each role may call.

Invariants: a token is compared in constant time, with every known one; it is in no error, no log line and no repr.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Set
from enum import StrEnum
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path

import msgspec
import msgspec.toml

from millstream.engine.application.app import App
from millstream.engine.errors import DefinitionError

__all__ = ["MAY", "Permits", "Role", "Tokens", "permitted_methods", "roles_from"]

#: A shorter token can be guessed.
_TOKEN_CHARS_MIN = 16


class Role(StrEnum):
    """What a connection may do: a reader all that changes nothing, a writer everything."""

    READER = "reader"
    WRITER = "writer"


_OPEN = frozenset({"authenticate", "health"})
_READING = _OPEN | {"ask", "ask_all", "watch", "unwatch", "follow", "describe", "rpc.discover", "stats", "agenda"}

#: What each role may call; None is a connection that has not authenticated yet.
MAY: Mapping[str | None, Set[str]] = {
    None: _OPEN,
    Role.READER: _READING,
    Role.WRITER: _READING | {"execute", "execute_many", "settle"},
}


#: Methods that a role of an application's own has only if it says so.
_MORE = frozenset({"follow", "stats", "agenda", "settle"})


class Permits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a role may do that is neither reader nor writer: which messages it may send, by name, ``"*"`` for all.

    Args:
        commands: what it may execute.
        queries: what it may ask and watch.
        methods: of ``follow``, ``stats``, ``agenda`` and ``settle``, those that it may call. `follow` and `agenda` show
            all events, and all that is owed.

    Raises:
        DefinitionError: there is no such method.
    """

    commands: frozenset[str] = frozenset()
    queries: frozenset[str] = frozenset()
    methods: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        unknown = sorted(set(self.methods) - _MORE)
        if unknown:
            known = ", ".join(sorted(_MORE))
            raise DefinitionError(f"a role has no method {unknown[0]!r} of its own; there are {known}")

    def may_send(self, tag: str) -> bool:
        """Whether it may execute this command."""
        return "*" in self.commands or tag in self.commands

    def may_ask(self, tag: str) -> bool:
        """Whether it may ask and watch this query."""
        return "*" in self.queries or tag in self.queries


def permitted_methods(permits: Permits) -> Set[str]:
    """The methods of the protocol that a role of an application's own may call."""
    methods = set(_OPEN | {"describe", "rpc.discover"} | permits.methods)
    if permits.commands:
        methods |= {"execute", "execute_many"}
    if permits.queries:
        methods |= {"ask", "ask_all", "watch"}
    if permits.queries or "follow" in permits.methods:
        methods.add("unwatch")
    return methods


def roles_from(path: str | Path) -> Mapping[str, Permits]:
    """Read a TOML file with a table for each role: ``[cashier]``, ``commands = ["Deposit"]``, ``queries = ["*"]``.

    Raises:
        DefinitionError: it can't be read, or is something else.
    """
    try:
        return msgspec.toml.decode(Path(path).read_bytes(), type=dict[str, Permits])
    except OSError as error:
        raise DefinitionError(f"the roles can't be read from {str(path)!r}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise DefinitionError(f"the roles in {str(path)!r} are none: {error}") from error


class Tokens:
    """The tokens that a server knows. Only their digests are kept.

    Args:
        lines: ``reader:TOKEN`` or ``writer:TOKEN``, one each, or another role that ``roles`` has; empty ones and those
            that start with ``#`` say nothing.
        roles: more roles, by name: what each may send.

    Raises:
        DefinitionError: a line is not of this form, or its token is too short; the error does not show it. Or there is
            none: who gives tokens does not mean to let everybody in. Or a role has the name of one that is there.
    """

    def __init__(self, lines: Iterable[str], *, roles: Mapping[str, Permits] | None = None) -> None:
        self.roles: Mapping[str, Permits] = dict(roles or {})
        for name in self.roles:
            if name in set(Role) or not name.isidentifier():
                raise DefinitionError(f"a role is called by a word that is not reader or writer, not {name!r}")
        self._digests: list[tuple[bytes, str]] = []
        problem = self._take(lines)
        del lines  # a traceback that shows what its functions held shows no token
        if problem is not None:
            raise DefinitionError(problem)

    @classmethod
    def from_file(cls, path: str | Path, *, roles: Mapping[str, Permits] | None = None) -> Tokens:
        """Read a file with a token on each line.

        Raises:
            DefinitionError: it can't be read, or a line is wrong.
        """
        return cls(_lines_of(path), roles=roles)

    @classmethod
    def from_environment(
        cls, name: str = "MILLSTREAM_TOKENS", *, roles: Mapping[str, Permits] | None = None
    ) -> Tokens | None:
        """Read a variable with tokens apart by spaces; None where it is not set.

        Raises:
            DefinitionError: a token is wrong, or the variable is empty.
        """
        return cls(os.environ[name].split(), roles=roles) if name in os.environ else None

    def __repr__(self) -> str:
        return f"<Tokens: {len(self._digests)}>"

    @classmethod
    def of_digests(cls, digests: Iterable[tuple[str, str]], roles: Mapping[str, Permits]) -> Tokens:
        """The same tokens in another process."""
        tokens = cls.__new__(cls)
        tokens.roles = roles
        tokens._digests = [(bytes.fromhex(digest), _role(role)) for digest, role in digests]
        return tokens

    @property
    def digests(self) -> list[tuple[str, str]]:
        """What is kept, for another process of this server: a digest in hexadecimal, and a role, each."""
        return [(digest.hex(), role) for digest, role in self._digests]

    def role_of(self, token: str) -> str | None:
        """The role of a token; None for one that is not known. Takes as long either way."""
        given, found = _digest(token), None
        for digest, role in self._digests:
            if compare_digest(digest, given):
                found = role
        return found

    def require_known(self, app: App) -> None:
        """See that an application has all messages that roles are permitted.

        Raises:
            DefinitionError: it does not have one.
        """
        commands = {entry.tag for entry in app.commands.values()}
        queries = {entry.tag for entry in app.queries.values()}
        for role, permits in self.roles.items():
            for kind, named, known in (("command", permits.commands, commands), ("query", permits.queries, queries)):
                unknown = sorted(named - known - {"*"})
                if unknown:
                    raise DefinitionError(f"role {role!r} is permitted a {kind} that there is not: {unknown[0]!r}")

    def _take(self, lines: Iterable[str]) -> str | None:
        """Keep the tokens; returns what is wrong with them."""
        for number, line in enumerate(lines, 1):
            text = line.strip()
            if not text or text.startswith("#"):
                continue
            role, colon, token = text.partition(":")
            if not colon or (role not in set(Role) and role not in self.roles):
                known = " or ".join(f"{each}:TOKEN" for each in (*Role, *self.roles))
                return f"line {number} of the tokens is not {known}"
            if len(token) < _TOKEN_CHARS_MIN:
                return f"the token in line {number} has less than {_TOKEN_CHARS_MIN} characters"
            self._digests.append((_digest(token), _role(role)))
        return None if self._digests else "the tokens hold none: give one, or no tokens at all"


def _lines_of(path: str | Path) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DefinitionError(f"the tokens can't be read from {str(path)!r}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise DefinitionError(f"the tokens can't be read from {str(path)!r}: it is not UTF-8") from None


def _role(name: str) -> str:
    return Role(name) if name in set(Role) else name


def _digest(token: str) -> bytes:
    return sha256(token.encode("utf-8", "surrogatepass")).digest()

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

from millstream.engine.errors import DefinitionError

__all__ = ["MAY", "Role", "Tokens"]

#: A shorter token can be guessed.
_TOKEN_CHARS_MIN = 16


class Role(StrEnum):
    """What a connection may do: a reader all that changes nothing, a writer everything."""

    READER = "reader"
    WRITER = "writer"


_OPEN = frozenset({"authenticate", "health"})
_READING = _OPEN | {"ask", "watch", "unwatch", "follow", "describe", "rpc.discover", "stats", "agenda"}

#: What each role may call; None is a connection that has not authenticated yet.
MAY: Mapping[Role | None, Set[str]] = {
    None: _OPEN,
    Role.READER: _READING,
    Role.WRITER: _READING | {"execute", "execute_many", "settle"},
}


class Tokens:
    """The tokens that a server knows. Only their digests are kept.

    Args:
        lines: ``reader:TOKEN`` or ``writer:TOKEN``, one each; empty ones and those that start with ``#`` say nothing.

    Raises:
        DefinitionError: a line is not of this form, or its token is too short; the error does not show it. Or there is
            none: who gives tokens does not mean to let everybody in.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self._digests: list[tuple[bytes, Role]] = []
        problem = self._take(lines)
        del lines  # a traceback that shows what its functions held shows no token
        if problem is not None:
            raise DefinitionError(problem)

    @classmethod
    def from_file(cls, path: str | Path) -> Tokens:
        """Read a file with a token on each line.

        Raises:
            DefinitionError: it can't be read, or a line is wrong.
        """
        return cls(_lines_of(path))

    @classmethod
    def from_environment(cls, name: str = "MILLSTREAM_TOKENS") -> Tokens | None:
        """Read a variable with tokens apart by spaces; None where it is not set.

        Raises:
            DefinitionError: a token is wrong, or the variable is empty.
        """
        return cls(os.environ[name].split()) if name in os.environ else None

    def __repr__(self) -> str:
        return f"<Tokens: {len(self._digests)}>"

    @classmethod
    def of_digests(cls, digests: Iterable[tuple[str, Role]]) -> Tokens:
        """The same tokens in another process."""
        tokens = cls.__new__(cls)
        tokens._digests = [(bytes.fromhex(digest), role) for digest, role in digests]
        return tokens

    @property
    def digests(self) -> list[tuple[str, Role]]:
        """What is kept, for another process of this server: a digest in hexadecimal, and a role, each."""
        return [(digest.hex(), role) for digest, role in self._digests]

    def role_of(self, token: str) -> Role | None:
        """The role of a token; None for one that is not known. Takes as long either way."""
        given, found = _digest(token), None
        for digest, role in self._digests:
            if compare_digest(digest, given):
                found = role
        return found

    def _take(self, lines: Iterable[str]) -> str | None:
        """Keep the tokens; returns what is wrong with them."""
        for number, line in enumerate(lines, 1):
            text = line.strip()
            if not text or text.startswith("#"):
                continue
            role, colon, token = text.partition(":")
            if not colon or role not in set(Role):
                return f"line {number} of the tokens is not reader:TOKEN or writer:TOKEN"
            if len(token) < _TOKEN_CHARS_MIN:
                return f"the token in line {number} has less than {_TOKEN_CHARS_MIN} characters"
            self._digests.append((_digest(token), Role(role)))
        return None if self._digests else "the tokens hold none: give one, or no tokens at all"


def _lines_of(path: str | Path) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DefinitionError(f"the tokens can't be read from {str(path)!r}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise DefinitionError(f"the tokens can't be read from {str(path)!r}: it is not UTF-8") from None


def _digest(token: str) -> bytes:
    return sha256(token.encode("utf-8", "surrogatepass")).digest()

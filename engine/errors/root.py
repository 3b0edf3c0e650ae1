"""The root of all errors, and who must act: one class for each."""

from __future__ import annotations

from typing import Any

__all__ = [
    "AuthorError",
    "CallerError",
    "MillstreamError",
    "RemoteError",
    "StorageError",
    "TryAgainLater",
]


class MillstreamError(Exception):
    """The root: ``except MillstreamError`` catches all that millstream raises on purpose, and nothing else."""


class CallerError(MillstreamError):
    """The request itself is at fault; the same request will fail again."""


class TryAgainLater(MillstreamError):
    """The request is fine; the moment is not."""


class StorageError(MillstreamError):
    """The log could not do its part."""


class AuthorError(MillstreamError):
    """The application's code is at fault."""


class RemoteError(MillstreamError):
    """A server's error of a kind that this client does not know, or can't make anew. ``data`` is what came with it."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(code, message, data)
        self.code = code
        self.message = message
        self.data = data

    def __str__(self) -> str:
        return f"the server says ({self.code}): {self.message}"

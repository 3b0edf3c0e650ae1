"""The messages of the protocol, JSON-RPC 2.0 (https://www.jsonrpc.org/specification), as msgspec Structs.

Here: what does not depend on the application. Not here: requests that hold its messages (`requests`).
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Raw, UnsetType

__all__ = [
    "METHODS",
    "AuthenticateParams",
    "FollowParams",
    "NoParams",
    "Notification",
    "Reply",
    "ReplyId",
    "Request",
    "UnwatchParams",
]

#: Who a reply is for, as the caller named it. A request without one is a notification, and gets no reply.
ReplyId: TypeAlias = int | str | float | None


class Request(msgspec.Struct, frozen=True, omit_defaults=True):
    """A request as a client writes it. ``params`` is by name."""

    method: str
    params: Any = UNSET
    id: int | UnsetType = UNSET
    jsonrpc: Literal["2.0"] = msgspec.field(default="2.0")

    @property
    def line(self) -> bytes:
        """As it is sent."""
        return _encode({"jsonrpc": "2.0", **msgspec.structs.asdict(self)}) + b"\n"


class ErrorShape(msgspec.Struct, frozen=True):
    """An error of JSON-RPC; ``data`` is left as it came."""

    code: int
    message: str
    data: Raw = Raw(b"null")


class Reply(msgspec.Struct, frozen=True):
    """Whatever a server sends, as a client reads it: an answer (``id`` and ``result`` or ``error``) or a notification
    (``method`` and ``params``).
    """

    id: int | str | float | UnsetType | None = UNSET
    result: Raw | UnsetType = UNSET
    error: ErrorShape | UnsetType = UNSET
    method: str | UnsetType = UNSET
    params: Raw | UnsetType = UNSET


class Notification(msgspec.Struct, frozen=True):
    """What a server sends about a watch: an answer at ``position``, events up to it, or the error that ended it."""

    watch: int
    answer: Raw | UnsetType = UNSET
    events: list[dict[str, Any]] | UnsetType = UNSET
    position: int = 0
    error: ErrorShape | UnsetType = UNSET


class NoParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """For methods without parameters."""


class UnwatchParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """Which watch is to end: the number that ``watch`` or ``follow`` gave."""

    watch: int


class FollowParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """Events after a position, of any of these keys and of any of these types; all of them by default."""

    after: int = 0
    keys: frozenset[str] | None = None
    types: frozenset[str] | None = None


class AuthenticateParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """Who is there."""

    token: str


#: The methods, each with the parameters it takes (None: they hold messages of the application) and the role it needs.
METHODS: dict[str, type[msgspec.Struct] | None] = {
    "execute": None,
    "ask": None,
    "watch": None,
    "unwatch": UnwatchParams,
    "follow": FollowParams,
    "describe": NoParams,
    "rpc.discover": NoParams,
    "health": NoParams,
    "stats": NoParams,
    "authenticate": AuthenticateParams,
}

_encode = msgspec.json.Encoder().encode

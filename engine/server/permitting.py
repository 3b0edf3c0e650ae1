"""What a role of an application's own may send: a look at each message before it is taken up.

Here: the methods that carry messages, and their check. Not here: what a role is permitted (`tokens`).
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

from millstream.engine.application.app import tag_in, tag_of
from millstream.engine.errors import NotPermitted
from millstream.engine.server.output import Batch
from millstream.engine.server.peer import Handler, Peer
from millstream.engine.server.tokens import Permits

__all__ = ["permitting", "require_permitted"]


def permitting(handler: Handler, method: str, role: str, permits: Permits) -> Handler:
    """A method as a role has it: a message that it may not send is refused.

    Args:
        handler: what the method does.
        method: its name.
        role: whose it is.
        permits: what the role may do.
    """
    if method not in ("execute", "execute_many", "ask", "ask_all", "watch"):
        return handler

    def checked(connection: Peer, request: Any, batch: Batch | None) -> None:
        for tag in _tags(method, request.params):
            require_permitted(permits, role, method, tag)
        handler(connection, request, batch)

    return checked


def require_permitted(permits: Permits, role: str, method: str, tag: str) -> None:
    """See that a role may send a message.

    Raises:
        NotPermitted: it may not.
    """
    may = permits.may_send if method.startswith("execute") else permits.may_ask
    if not may(tag):
        raise NotPermitted(f"{method} {tag[:80]}", role)


def _tags(method: str, params: Any) -> list[str]:
    if method == "execute":
        return [tag_of(type(params.command))]
    if method == "execute_many":
        return [_tag_of_any(command) for command in params.commands]
    if method == "ask_all":
        return [tag_of(type(query)) for query in params.queries]
    return [tag_of(type(params.query))]


def _tag_of_any(command: Any) -> str:
    """Of a command, or of one that is left as it came, as others beside it are none."""
    if not isinstance(command, Raw):
        return tag_of(type(command))
    try:
        return tag_in(bytes(command))
    except msgspec.DecodeError:
        return ""

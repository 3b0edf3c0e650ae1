"""What a front is given when it is started: one line on its standard input. No secret is in it but digests of tokens.

Here: the message. Not here: who sends it (`process`), and what follows (`child`).
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from millstream.engine.recovery.naming import NamedApp
from millstream.engine.server.limits import ServerLimits
from millstream.engine.server.listening import TlsFiles
from millstream.engine.server.tokens import Permits

__all__ = ["Listening", "Order"]


class Listening(msgspec.Struct, frozen=True):
    """A socket that is listened to, by its file descriptor; and its address."""

    descriptor: int
    address: str


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """All that a front needs."""

    #: Where modules are looked for.
    path: tuple[str, ...]
    app: NamedApp
    #: As they are, also what is no number of JSON: math.inf.
    limits: dict[str, Any]
    #: Digests, with roles; None: there are no tokens.
    tokens: list[tuple[str, str]] | None
    #: What roles of the application's own may do.
    roles: dict[str, Permits]
    #: The certificate, its key, and the authorities of clients.
    tls: TlsFiles | None
    #: The file descriptor of the stream to the writer's process.
    stream: int = -1
    listening: list[Listening] = []

    @property
    def line(self) -> bytes:
        """As it is sent: ASCII, whatever is in a path, and floats as Python writes them."""
        return json.dumps(msgspec.to_builtins(self)).encode() + b"\n"

    @classmethod
    def of(cls, line: bytes) -> Order:
        """What a line says."""
        return msgspec.convert(json.loads(line), cls)

    @property
    def server_limits(self) -> ServerLimits:
        """The bounds of the server."""
        return ServerLimits(**self.limits)

"""The methods of the protocol: a table of who handles what, and those that are about the server itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import Raw

from millstream.engine.application.app import App
from millstream.engine.errors import NotAuthenticated
from millstream.engine.health import health_of
from millstream.engine.server.agenda import AgendaRequests
from millstream.engine.server.backend import Backend
from millstream.engine.server.commands import Commands, Forwarding
from millstream.engine.server.limits import ServerLimits
from millstream.engine.server.output import Batch
from millstream.engine.server.peer import Handler, Peer
from millstream.engine.server.permitting import permitting
from millstream.engine.server.queries import Queries
from millstream.engine.server.stats import ServerStats
from millstream.engine.server.tokens import MAY, Role, Tokens, permitted_methods
from millstream.engine.wire import Requests
from millstream.engine.wire.openrpc import describe

__all__ = ["Methods", "authenticator", "describer"]


class Methods:
    """What each method does, for one engine or replica.

    Args:
        backend: who is served.
        requests: how requests are read.
        tokens: those that `authenticate` knows; None: everybody may do everything.
        limits: the server's.
        stats: tells the server's own figures.
    """

    def __init__(
        self,
        backend: Backend,
        requests: Requests,
        tokens: Tokens | None,
        limits: ServerLimits,
        stats: Callable[[], ServerStats],
    ) -> None:
        self._backend = backend
        self._server_stats = stats
        #: None where commands are passed on.
        self.commands = None if backend.admission is None else Commands(backend.admission)
        questions = Queries(backend, limits)
        commands = self.commands or Forwarding(backend, limits)
        agenda = AgendaRequests(backend, limits)
        table: dict[str, Handler] = {
            "execute": commands.execute,
            "execute_many": commands.execute_many,
            "ask": questions.ask,
            "ask_all": questions.ask_all,
            "watch": questions.watch,
            "unwatch": questions.unwatch,
            "follow": questions.follow,
            "agenda": agenda.agenda,
            "settle": agenda.settle,
            "describe": (describing := describer(backend.app)),
            "rpc.discover": describing,
            "health": self._health,
            "stats": self._stats,
            "authenticate": authenticator(tokens),
        }
        #: By role, and by class of request.
        self.handlers: dict[str | None, Mapping[type[Any], Handler]] = {
            role: {requests.types[name]: handler for name, handler in table.items() if name in names}
            for role, names in MAY.items()
        }
        if tokens is not None:
            tokens.require_known(backend.app)
            self.handlers |= {
                role: {
                    requests.types[name]: permitting(handler, name, role, permits)
                    for name, handler in table.items()
                    if name in permitted_methods(permits)
                }
                for role, permits in tokens.roles.items()
            }

    def _health(self, connection: Peer, request: Any, batch: Batch | None) -> None:
        health = health_of(self._backend, names_views=connection.role is not None)
        connection.reply(request.id, health, batch)

    def _stats(self, connection: Peer, request: Any, batch: Batch | None) -> None:
        figures = msgspec.to_builtins(self._backend.stats())
        connection.reply(request.id, {**figures, "server": self._server_stats()}, batch)


def describer(app: App) -> Handler:
    """What tells what an application understands."""
    description: Raw | None = None

    def tell(connection: Peer, request: Any, batch: Batch | None) -> None:
        nonlocal description
        if description is None:
            description = Raw(msgspec.json.encode(describe(app)))
        connection.reply(request.id, description, batch)

    return tell


def authenticator(tokens: Tokens | None) -> Handler:
    """What gives a connection the role of its token; without tokens everybody may do everything."""

    def authenticate(connection: Peer, request: Any, batch: Batch | None) -> None:
        role = Role.WRITER if tokens is None else tokens.role_of(request.params.token)
        if role is None or connection.reason is not None:  # one guess a connection, also in a batch
            connection.become(None)
            connection.end("unknown_token")
            raise NotAuthenticated("the token is not known")
        connection.become(role)
        connection.reply(request.id, {"role": role}, batch)

    return authenticate

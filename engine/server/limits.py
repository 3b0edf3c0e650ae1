"""Every bound of a server, by name and with its unit last."""

from __future__ import annotations

import msgspec

from millstream.engine.errors import DefinitionError

__all__ = ["ServerLimits"]


class ServerLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The server's bounds. Past one, a connection waits, gets `LimitReached`, or is closed.

    Of what all connections share, ``asked_bytes_max``, ``follows_max``, ``agenda_requests_max``, ``forwards_max`` and
    ``forwards_bytes_max``, and of the engine's ``watches_max`` and ``view_waiters_max``, one connection has no more
    than is left to all others.

    Raises:
        DefinitionError: a limit is not positive.
    """

    #: Connections at once, on all addresses together. One more gets the reason and is closed; on TLS it is just closed.
    connections_max: int = 2_000
    #: Bytes of one line. A longer one is answered and closes the connection: where the next begins can't be known.
    frame_bytes_max: int = 1024 * 1024
    #: The same before a token, where tokens are wanted; what is sent right behind a token may be no longer either.
    stranger_frame_bytes_max: int = 16 * 1024
    #: Bytes of the questions of one connection that wait for a view, its watches included; one more is `LimitReached`.
    connection_asked_bytes_max: int = 16 * 1024 * 1024
    #: The same for all connections together.
    asked_bytes_max: int = 256 * 1024 * 1024
    #: Bytes of the large requests, over 16 kB each, that one connection has in flight; past it nothing is taken up
    #: from it until all of its commands are answered.
    connection_large_bytes_max: int = 8 * 1024 * 1024
    #: Requests of one connection that are not answered yet; past it nothing is read from it. Requests in a batch, and
    #: commands in one `execute_many`, each of which counts as a request; a larger one is refused.
    in_flight_max: int = 1_024
    #: Requests of one connection that are taken up before others have their turn, and for how long.
    turn_requests_max: int = 64
    turn_ms_max: float = 2.0
    #: Watches of one connection, `follow` included; one more gets `LimitReached`.
    connection_watches_max: int = 1_000
    #: `follow` at once, by all connections together: each reads the log. One more gets `LimitReached`.
    follows_max: int = 100
    #: Of these, by one connection.
    connection_follows_max: int = 20
    #: Requests `agenda` and `settle` that are not answered yet, of all connections; one more gets `LimitReached`.
    agenda_requests_max: int = 64
    #: Commands that a replica has passed on and that are not answered yet; one more gets `LimitReached`.
    forwards_max: int = 8_192
    #: Bytes of the large ones among them, over 16 kB each; one more gets `LimitReached`.
    forwards_bytes_max: int = 64 * 1024 * 1024
    #: Bytes that wait for a slow reader. Past it nothing is read from it, and its watches wait; one answer may exceed
    #: it. In a batch, answers to questions past it are `LimitReached` instead.
    output_bytes_max: int = 1024 * 1024
    #: How long a question may wait for a view that is behind, if it names no shorter time: then `NotYetVisible`.
    answer_seconds_max: float = 60.0
    #: How long the questions of a connection that has said that it sends no more may wait for a view that is behind,
    #: then `NotYetVisible`: whether a program still listens there can't be known.
    ended_seconds_max: float = 5.0
    #: How long a TLS handshake may take.
    handshake_seconds_max: float = 10.0
    #: How long one may take to authenticate, where tokens are wanted, before it gets the reason and is closed.
    authenticate_seconds_max: float = 10.0
    #: How long a connection without a watch may send no whole line, and wait for nothing, before it gets the reason and
    #: is closed.
    idle_seconds_max: float = 600.0
    #: How long a reader may leave ``output_bytes_max`` before the connection is closed.
    slow_seconds_max: float = 30.0
    #: How long a connection that is closed waits for the other side to close it too.
    linger_seconds_max: float = 1.0
    #: How long stopping waits for requests that were taken, and for their answers to be read.
    drain_seconds_max: float = 30.0
    #: Bytes that wait between a front process and the writer's, in either direction. Past it nothing more is read.
    front_bytes_max: int = 1024 * 1024
    #: How long a front process may take until it takes connections.
    front_start_seconds_max: float = 60.0
    #: How long after one has ended by itself it is started again; each time twice as long, while it does not last.
    front_retry_seconds_min: float = 0.1
    front_retry_seconds_max: float = 10.0

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if not getattr(self, name) > 0:
                raise DefinitionError(f"{name} must be positive, not {getattr(self, name)!r}", "ServerLimits")

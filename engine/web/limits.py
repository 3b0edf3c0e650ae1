"""Every bound of what is served over HTTP, by name and with its unit last."""

from __future__ import annotations

import msgspec

from millstream.engine.errors import DefinitionError

__all__ = ["WebLimits"]


class WebLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds of a `WebApp`, and those of a `WebServer`, which are about connections.

    Where another server runs the `WebApp`, as in a FastAPI application, connections are that server's to bound.

    Raises:
        DefinitionError: a limit is not positive.
    """

    # Of the application.

    #: Bytes of the body of one request; a longer one is refused while it comes in.
    body_bytes_max: int = 1024 * 1024
    #: Bytes of the bodies of all requests together, from when they come in until they are answered.
    bodies_bytes_max: int = 256 * 1024 * 1024
    #: How long a body may take to come in.
    body_seconds_max: float = 30.0
    #: How long a question may wait for a view that is behind, if it names no shorter time.
    answer_seconds_max: float = 60.0
    #: Watches at once.
    watches_max: int = 10_000
    #: Streams of events at once: each reads the log.
    follows_max: int = 100
    #: Pages of the log that are looked for at once, each by reading it.
    log_pages_max: int = 16
    #: How many events are looked at for one page; it is shorter then, and says where to go on.
    log_page_searched_events_max: int = 100_000
    #: How long a stream says nothing before it says that it is there still.
    heartbeat_seconds: float = 15.0
    #: How long who reads may leave what was sent, before the stream, or the connection, is ended.
    slow_seconds_max: float = 30.0

    # Of the server.

    #: Connections at once, on all addresses together; one more gets that as an error, and is closed.
    connections_max: int = 2_000
    #: Bytes of a request's line and headers.
    head_bytes_max: int = 16 * 1024
    #: How long these may take: from connecting on, or from their first byte.
    head_seconds_max: float = 10.0
    #: How long a connection may stay without a request after an answer.
    idle_seconds_max: int = 75
    #: How long a connection that is closed waits until what was sent is taken.
    linger_seconds_max: float = 2.0
    #: How long stopping waits for requests that were taken.
    drain_seconds_max: float = 30.0

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if not getattr(self, name) > 0:
                raise DefinitionError(f"{name} must be positive, not {getattr(self, name)!r}", "WebLimits")

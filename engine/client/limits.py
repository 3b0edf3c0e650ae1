"""Every bound of a client, by name and with its unit last."""

from __future__ import annotations

import msgspec

from millstream.engine.errors import DefinitionError

__all__ = ["ClientLimits"]


class ClientLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The client's bounds. The defaults fit those of `ServerLimits`.

    Raises:
        DefinitionError: a limit is not positive, or two contradict each other.
    """

    #: Bytes of one request; a longer one is refused here, because a server closes the connection over it.
    frame_bytes_max: int = 1024 * 1024
    #: Bytes of one reply, and so of one answer. A longer one is not read, and is an error of that call or watch alone.
    reply_bytes_max: int = 16 * 1024 * 1024
    #: Requests that are sent and not answered yet, each command of an `execute_many` counted; more of them wait here.
    #: A server takes no more commands in one request than its own.
    in_flight_max: int = 1_024
    #: Requests that may wait here, for room or for a connection; one more gets `LimitReached`.
    waiting_calls_max: int = 100_000
    #: Bytes that are given to the socket at once, and that may lie there before no more are given to it.
    output_bytes_max: int = 1024 * 1024
    #: Answers that may wait for a watcher of every change; past it that watch ends with `WatchOverrun`.
    watch_answers_max: int = 1_000
    #: Bytes of these, of one watch; one answer may always wait.
    watch_answers_bytes_max: int = 64 * 1024 * 1024
    #: Pages of events that may wait for a follower of the log; past it they are dropped, and asked for again.
    stream_pages_max: int = 16
    #: How often one request is sent, if each time the connection is lost before its answer came.
    sends_max: int = 5
    #: How long one attempt to connect may take, TLS and token included.
    connect_seconds_max: float = 5.0
    #: How long the server may be out of reach before calls that wait for it fail with `ConnectionLost`.
    reconnect_seconds_max: float = 30.0
    #: How long to wait before the second attempt to connect; before each later one, up to twice as long.
    retry_seconds_min: float = 0.02
    #: The longest wait between two attempts.
    retry_seconds_max: float = 1.0
    #: How long nothing may come before the server is asked whether it is there; as long again, and it is not.
    quiet_seconds_max: float = 30.0
    #: How long after its timeout a request that was sent waits for the server's word on what became of it.
    late_seconds_max: float = 1.0
    #: How long closing waits for the outcome of commands.
    drain_seconds_max: float = 10.0

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if not getattr(self, name) > 0:
                raise DefinitionError(f"{name} must be positive, not {getattr(self, name)!r}", "ClientLimits")
        if self.retry_seconds_min > self.retry_seconds_max:
            raise DefinitionError("retry_seconds_min is larger than retry_seconds_max", "ClientLimits")

"""How far a connection has come, and what moves it: the table that `connection` asks.

What a connection reads and answers in each status is the table at the head of `connection`.
"""

from __future__ import annotations

from enum import StrEnum

from millstream.engine.lifecycle import Moves

__all__ = ["MOVES", "ConnectionEvent", "ConnectionStatus"]


class ConnectionStatus(StrEnum):
    """How far a connection has come; the table above says what follows from it."""

    OPEN = "open"
    ENDING = "ending"
    CLOSING = "closing"
    GONE = "gone"


class ConnectionEvent(StrEnum):
    """What happens to a connection."""

    #: The other side sends no more, or the server wants no more of it.
    ENDS = "ends"
    #: There was no room for it.
    REFUSED = "refused"
    #: All that was read is answered.
    ANSWERED = "answered"
    LOST = "lost"


_ALWAYS = {ConnectionEvent.LOST: ConnectionStatus.GONE}
MOVES: Moves[ConnectionStatus, ConnectionEvent] = {
    ConnectionStatus.OPEN: {
        **_ALWAYS,
        ConnectionEvent.ENDS: ConnectionStatus.ENDING,
        ConnectionEvent.REFUSED: ConnectionStatus.CLOSING,
    },
    ConnectionStatus.ENDING: {
        **_ALWAYS,
        ConnectionEvent.ENDS: ConnectionStatus.ENDING,
        ConnectionEvent.ANSWERED: ConnectionStatus.CLOSING,
    },
    ConnectionStatus.CLOSING: _ALWAYS,
    ConnectionStatus.GONE: {},
}

"""What the writer may be doing, and what moves it from one to another.

    status       what it does
    ------       ------------
    DECIDING     decides and applies ahead of the flight
    RECOVERING   has no state: asks the store whether it takes commits, if one failed, and rebuilds the state from
                 snapshots and log; if either fails, refuses those who wait, and tries again with the next command
    STOPPED      takes nothing; says why

Here: the table `MOVES`. Not here: what is done (`writer`).
"""

from __future__ import annotations

from enum import StrEnum

from millstream.engine.lifecycle import Moves

__all__ = ["MOVES", "WriterEvent", "WriterStatus"]


class WriterStatus(StrEnum):
    """What the writer is doing; the table above says what follows from it."""

    DECIDING = "deciding"
    RECOVERING = "recovering"
    STOPPED = "stopped"


class WriterEvent(StrEnum):
    """What happens to the writer."""

    #: A commit failed, or a command damaged the state.
    LOST_STATE = "lost its state"
    REBUILT = "rebuilt"
    ENDED = "ended"


_ALWAYS = {WriterEvent.LOST_STATE: WriterStatus.RECOVERING, WriterEvent.ENDED: WriterStatus.STOPPED}
MOVES: Moves[WriterStatus, WriterEvent] = {
    WriterStatus.DECIDING: _ALWAYS,
    WriterStatus.RECOVERING: {**_ALWAYS, WriterEvent.REBUILT: WriterStatus.DECIDING},
    WriterStatus.STOPPED: {},
}

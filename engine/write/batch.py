"""From the mailbox's queue to the kernel: whose turn it is, who has given up, and when a batch ends.

Here: a draft, which is the kernel's rows and who waits for each. Not here: how a command is decided (`kernel`); when a
batch is decided, and what becomes of it (`writer`).

Invariant: a command that was taken from the queue has a row in the draft, or its caller has given up.
"""

from __future__ import annotations

from collections import deque
from datetime import datetime
from itertools import islice

from millstream.engine.application.messages import Command
from millstream.engine.application.options import Deadline
from millstream.engine.commits.columns import text_bytes
from millstream.engine.commits.commit import Head
from millstream.engine.errors import DeadlineExceeded
from millstream.engine.limits import Limits
from millstream.engine.loop.clock import elapsed
from millstream.engine.write.cascade import decide_owed, fire
from millstream.engine.write.entries import Looking, Performed, Settlement
from millstream.engine.write.envelope import Envelope, Promise
from millstream.engine.write.kernel import decide
from millstream.engine.write.room import GIVEN_BYTES_MAX, PLACE_BYTES_MAX, SHORT_KEY_CHARS, following
from millstream.engine.write.rows import Rows
from millstream.engine.write.settling import look, settle, take_performed
from millstream.engine.write.state import WriteState
from millstream.engine.write.timetable import Due

__all__ = ["Draft", "fill"]

#: How many commands are decided between two looks at the clock: first so many, and more when those were quick. By 64,
#: a command costs 0.2 µs less than by 16.
_AT_ONCE = 16
_AT_ONCE_MAX = 64


class Draft(Rows):
    """A commit in the making, and who waits for it."""

    __slots__ = ("fired", "holds", "promises", "skipped")

    def __init__(self, head: Head, now: datetime, clock: datetime | None = None) -> None:
        super().__init__(head, now, clock)
        #: Who waits for each outcome.
        self.promises: list[Promise] = []
        #: Those who had given up when their turn came.
        self.skipped: list[Promise] = []
        #: How many timers it has sent.
        self.fired = 0
        #: The next timer that is due was set in it, and comes in the commit that follows.
        self.holds = False

    def is_full(self, limits: Limits) -> bool:
        """Whether the draft has to be written before it takes more."""
        return (
            self.is_damaged or self.owes or len(self.outcomes) >= limits.batch_commands_max or self.is_full_of(limits)
        )


def fill(
    draft: Draft, queue: deque[Envelope], state: WriteState, limits: Limits, due: deque[Due] | None = None
) -> None:
    """Decide what is owed, what is due, and then waiting commands, until the draft is full, none waits, or
    ``slice_ms_max`` is over. While commands wait what is due takes half of the draft at most.

    Args:
        draft: not full.
        queue: commands in order; those that were decided, cancelled or expired are taken from it.
        state: is changed by the events.
        limits: ``batch_commands_max``, ``batch_bytes_max``, ``commit_bytes_max`` and ``slice_ms_max`` are honoured.
        due: the timers whose time has come, in order; those that were sent, or are not on the agenda any more, are
            taken from it.

    Raises:
        KeyboardInterrupt, SystemExit: as `decide`. The command stays in the queue: stopping the writer answers it.
    """
    slice_seconds, at_once, now = limits.slice_ms_max / 1e3, _AT_ONCE, elapsed()
    one = state.exact_bytes_max + PLACE_BYTES_MAX + state.sizes.command + GIVEN_BYTES_MAX + 6 * SHORT_KEY_CHARS
    until = now + slice_seconds
    if state.agenda.owed:
        decide_owed(state, draft, limits)
    if due:
        _fire_due(draft, queue, state, limits, due, until)
    outcomes, promises, take = draft.outcomes, draft.promises, queue.popleft
    while queue and not draft.is_full(limits):
        # Events that pass their check are encoded after the commands that yielded them, some at once.
        batch = limits.batch_bytes_max - draft.size_bytes
        # Those of them that need more than such an event may fill the batch, and have twice as much beside it at most.
        room = (draft.room(state, limits) - 2 * batch) // one
        if room < 1 and not draft.is_empty:
            draft.is_closed = True
            return
        room = min(room, batch // state.exact_bytes_max)
        waiting = _waiting(draft, queue, max(1, min(at_once, limits.batch_commands_max - len(outcomes), room)))
        asked: object = queue[0][1] if waiting else None
        if type(asked) is Settlement:
            # In a commit of its own: what commits say of one entry has no order within a commit.
            if draft.is_empty:  # so there is room
                settle(draft, asked, state, limits)
                promises.append(take()[0])
            draft.owes = not draft.is_empty
            continue
        if type(asked) is Performed:
            # What came of it is written down where it can't be decided.
            if draft.closes_for(limits.cascade_bytes_max + following(limits), state, limits):
                return
            take_performed(draft, asked, state, limits)
            promises.append(take()[0])
            if elapsed() > until:
                return
            continue
        if type(asked) is Looking:
            look(draft, asked, state)
            promises.append(take()[0])
            continue
        decided = len(outcomes)
        try:
            decide(islice(queue, waiting), state, draft, limits, waiting * one)
        finally:
            promises += [take()[0] for _ in range(len(outcomes) - decided)]
        before, now = now, elapsed()
        if now > until:
            return
        if now - before < slice_seconds / 8:
            at_once = min(2 * at_once, _AT_ONCE_MAX)


def _fire_due(
    draft: Draft, queue: deque[Envelope], state: WriteState, limits: Limits, due: deque[Due], until: float
) -> None:
    """Send what is due, in order, for a slice."""
    timers, most = state.agenda.timers, limits.batch_commands_max
    while due and not draft.is_full(limits) and draft.fired < (max(1, most // 2) if queue else most):
        name, when = due[0]
        timer = timers.get(name)
        if timer is not None and timer.due == when:
            if draft.closes_for(following(limits) + text_bytes(timer.title) + text_bytes(timer.scope), state, limits):
                return
            if timer.commit == draft.number:
                draft.holds = True
                return
            fire(timer, state, draft, limits)
            draft.fired += 1
        due.popleft()
        if elapsed() > until:
            return


def _waiting(draft: Draft, queue: deque[Envelope], most: int) -> int:
    """How many of those that are next have not given up, up to so many. If the first has, it is taken out."""
    count = 0
    for promise, command, terms in islice(queue, most):
        if promise.done():
            break
        if terms is not None and terms.deadline is not None:
            if count:
                break  # it is looked at again when its turn comes: those before it may take long
            if elapsed() <= terms.deadline.at:
                count = 1
                continue
            promise.set_exception(_expired(command, terms.deadline))  # its timer is late, because the loop was busy
            break
        count += 1
    if not count:  # cancelled or expired while it waited: it never executes
        draft.skipped.append(queue.popleft()[0])
    return count


def _expired(command: Command, deadline: Deadline) -> DeadlineExceeded:
    return DeadlineExceeded(type(command).__name__, deadline.timeout_seconds, decided=False)

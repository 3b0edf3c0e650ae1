"""Room in a commit: how many bytes its body may come to, and what is kept free for what follows from a command.

Here: sizes, each an upper bound. Not here: what is done where the room does not suffice (`kernel`, `batch`, `cascade`).

    what                        its size
    ----                        --------
    events, answers             as they are encoded; before that, the most that their class can come to
    agenda, origins, refusals   as they are encoded
    keys, names, metadata       as they are encoded
    ids                         the most that their characters can come to
    what each command has       a place in each column: a constant of the application
    what a commit has once      a constant of the application

Invariant: a body has at most ``commit_bytes_max`` bytes. What does not fit beside what stands there opens the next
commit, and is refused if it would not fit there; both before anything of it is applied.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from msgspec import UNSET

from millstream.engine.application.app import App
from millstream.engine.application.messages import Event
from millstream.engine.application.validation import COMMAND_ID_CHARS_MAX, METADATA_BYTES_MAX, encode
from millstream.engine.commits.columns import text_bytes
from millstream.engine.commits.record import Owed
from millstream.engine.limits import Limits
from millstream.engine.write.timing import Checked

__all__ = ["GIVEN_BYTES_MAX", "PLACE_BYTES_MAX", "SHORT_KEY_CHARS", "Sizes", "following", "timers_bytes"]

#: Of an event's place in ``of``.
PLACE_BYTES_MAX = 8
#: Of what a caller may give with a command: an id, which has a digest beside it, and metadata.
GIVEN_BYTES_MAX = 6 * COMMAND_ID_CHARS_MAX + 100 + METADATA_BYTES_MAX
#: A key of so many characters is short: it needs no look by itself.
SHORT_KEY_CHARS = 100
#: Of a command's places in the columns in which nothing is said of it: ten, and what stands between them.
_COLUMNS_BYTES = 64
#: Of a commit's members: their names, who writes, and the features that a reader must know.
_MEMBERS_BYTES = 3_000
#: Of a reaction that is parked because those before it have taken all that may follow.
_SPENT_BYTES = 300
#: Of a timer, without its command and the names in it.
_TIMER_BYTES = 200
#: What follows may go beyond ``cascade_bytes_max`` by this: its last refusal, and why its last reaction failed.
_LAST_BYTES = 24 * 1024


class Sizes(NamedTuple):
    """What the commits of one application have beside events."""

    #: Once.
    once: int
    #: For each command.
    command: int
    #: By type of event: where all reactions to it are owed; and how many there are.
    owed: dict[type[Event], tuple[int, int]]

    @classmethod
    def of(cls, app: App) -> Sizes:
        """Those of an application."""
        once = _MEMBERS_BYTES + text_bytes(app.version)
        for event, entry in app.events.items():  # all of them, as if each were in each commit
            if entry.key_name is not None:
                once += text_bytes(entry.tag) + text_bytes(entry.key_name)
            if event in app.effects:
                once += text_bytes(entry.tag) + len(encode([each.name for each in app.effects[event]])) + 1
        command = _COLUMNS_BYTES + max((text_bytes(each.tag) for each in app.commands.values()), default=0)
        owed = {
            event: (sum(len(encode(Owed(2**31, each.name))) + 1 for each in reactions), len(reactions))
            for event, reactions in app.reactions.items()
        }
        return cls(once, command, owed)

    def owed_by(self, events: Iterable[Event], *, may_owe: bool = True) -> int:
        """What the commit says where no reaction to these events has begun.

        Args:
            events: in any order.
            may_owe: reactions that have not begun are owed. Else they are parked.
        """
        if not self.owed:
            return 0
        found = [self.owed[type(event)] for event in events if type(event) in self.owed]
        return sum(size if may_owe else size + count * _SPENT_BYTES for size, count in found)


def following(limits: Limits) -> int:
    """What is kept free for what follows from one command, timer, or reaction that is owed."""
    return limits.cascade_bytes_max + _LAST_BYTES


def timers_bytes(found: Iterable[Checked], key: str | None, by: str = "") -> int:
    """What the commit says of timers.

    Args:
        found: what is set and called off.
        key: what their names belong to by default.
        by: whose reaction has yielded them, if one has.
    """
    size, names = 0, text_bytes(key) + text_bytes(by)
    for timing, _, command in found:
        size += _TIMER_BYTES + names + (0 if command is None else len(command))
        size += text_bytes(timing.name) + _scope_bytes(timing.key)
    return size


def _scope_bytes(key: Any) -> int:
    return 0 if key is UNSET else text_bytes(key)

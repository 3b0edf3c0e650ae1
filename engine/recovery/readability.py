"""Reads every stored event with today's classes and says which can't be read: for `log check` and a failed opening.

Here: counting. Not here: applying anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec
from msgspec.structs import replace

from millstream.engine.application.app import App, tag_in, tag_of
from millstream.engine.application.validation import encode, union_of
from millstream.engine.commits.body import UNREADABLE, body_reader, mismatches, read_anything
from millstream.engine.commits.chain import unreadable
from millstream.engine.commits.commit import Commit
from millstream.engine.errors import HandlerFailed
from millstream.engine.errors.unreadable import UnreadableEvent
from millstream.engine.loop.slices import Slicer
from millstream.engine.stores.port import Log
from millstream.engine.write.entries import AgendaEntry, Timer

__all__ = ["Readability", "check_events", "unknown_commands"]


class Readability(msgspec.Struct, frozen=True):
    """What was found: how many commits and events, how many events of each type, and which can't be read."""

    commits: int
    events: int
    #: By the name that they have in the log.
    types: dict[str, int]
    unreadable: list[UnreadableEvent]
    #: By their name, commands that timers send and the application does not know, and how many timers.
    commands: dict[str, int] = {}


class _Tally:
    def __init__(self, app: App) -> None:
        self.app = app
        self.read = msgspec.json.Decoder(union_of(app.stored)).decode
        self.read_body = body_reader(app.stored)
        self.commits = self.events = 0
        self.types: Counter[str] = Counter()
        self.unreadable: dict[tuple[str, bool], UnreadableEvent] = {}

    def take(self, log: str, commit: Commit) -> None:
        self.commits += 1
        try:
            stored = self.read_body(commit.body).events
        except UNREADABLE as error:
            self._take_unread(log, commit, error)
            return
        self._count(Counter(tag_of(type(event)) for event in stored))
        try:
            self.app.upcast(stored)
        except HandlerFailed:
            self._note(commit, self.app.failed_upcasts(stored))

    def _take_unread(self, log: str, commit: Commit, error: Exception) -> None:
        wrong = mismatches(commit.body, self.app.stored) if isinstance(error, msgspec.DecodeError) else ()
        if not wrong:
            raise unreadable(log, commit, error) from error
        self._note(commit, wrong)
        events = read_anything(commit.body).events
        self._count(Counter(str(event.get("type")) for event in events))
        unread = {index for index, *_ in wrong}
        for index, event in enumerate(events):
            if index not in unread:
                failed = self.app.failed_upcasts([self.read(encode(event))])
                self._note(commit, [(index, name, known, problem) for _, name, known, problem in failed])

    def _count(self, types: Counter[str]) -> None:
        self.types.update(types)
        self.events += types.total()

    def _note(self, commit: Commit, wrong: Iterable[tuple[int, str, bool, str]]) -> None:
        for index, name, known, problem in wrong:
            before = self.unreadable.get((name, known))
            if before is None:
                position = commit.position + index
                first = UnreadableEvent(name, 1, commit.number, position, known, problem)
                self.unreadable[name, known] = first
            else:
                self.unreadable[name, known] = replace(before, count=before.count + 1)


def unknown_commands(app: App, entries: Iterable[AgendaEntry]) -> dict[str, int]:
    """By their name, commands that timers are to send and an application does not know, and how many timers."""
    tags = (tag_in(each.command.encode()) for each in entries if isinstance(each, Timer) and not each.is_parked)
    unknown = Counter(tag for tag in tags if not app.knows_command(tag))
    return dict(sorted(unknown.items()))


async def check_events(
    log: Log, app: App, *, after: int = 0, read_bytes_max: int = 1024 * 1024, slicer: Slicer | None = None
) -> Readability:
    """Read each event from commit ``after`` on as ``app`` would; nothing is applied, and nothing is changed.

    Args:
        log: an open or attached log.
        app: whose classes are to read it.
        after: the number of the commit before the first one to look at.
        read_bytes_max: about how much is read at once.
        slicer: says when to rest.

    Raises:
        LogCorrupt: a commit's body is no array of commands. Digests are not looked at: `verify_log` does that.
        LogRefused: an event is nested too deeply to be read.
    """
    slicer, tally = slicer or Slicer(2.0), _Tally(app)
    while commits := await log.read(after, read_bytes_max):
        for commit in commits:
            tally.take(log.name, commit)
            if slicer.is_over:
                await slicer.rest()
        after = commits[-1].number
    unreadable = sorted(tally.unreadable.values(), key=lambda each: each.position)
    return Readability(tally.commits, tally.events, dict(tally.types), unreadable)

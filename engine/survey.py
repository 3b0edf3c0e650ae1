"""Reads every stored event with today's classes and says which can't be read: for `log check` and a failed opening.

Here: counting. Not here: applying anything.
"""

from __future__ import annotations

from collections import Counter

import msgspec
from msgspec.structs import replace

from penstock.engine.app import App, tag_of
from penstock.engine.commit import Commit, Head, mismatches
from penstock.engine.errors import HandlerFailed, LogCorrupt, UnreadableEvent
from penstock.engine.log import Log
from penstock.engine.replay import Slicer

__all__ = ["Survey", "survey"]


class Survey(msgspec.Struct, frozen=True):
    """What was found: how many commits and events, how many events of each type, and which can't be read."""

    commits: int
    events: int
    #: By the name that they have in the log.
    types: dict[str, int]
    unreadable: list[UnreadableEvent]


class _Tally:
    def __init__(self, app: App) -> None:
        self.app = app
        self.commits = self.events = 0
        self.types: Counter[str] = Counter()
        self.unreadable: dict[tuple[str, bool], UnreadableEvent] = {}

    def take(self, log: str, commit: Commit) -> None:
        self.commits += 1
        try:
            records = self.app.read_body(commit.body)
        except msgspec.DecodeError as error:
            wrong = mismatches(commit.body, self.app.stored)
            if not wrong:
                raise LogCorrupt(log, commit.number, f"its body is not an array of commands: {error}") from error
            for index, name, known, problem in wrong:
                self._note(commit, index, name, known, problem)
            names = msgspec.json.decode(commit.body, type=list[_Typed])
            self.types.update(event.type for record in names for event in record.events)
            self.events += sum(len(record.events) for record in names)
            return
        stored = [event for record in records for event in record.events]
        self.types.update(tag_of(type(event)) for event in stored)
        self.events += len(stored)
        try:
            self.app.upcast(stored)
        except HandlerFailed:
            self._try_each(commit, stored)

    def _try_each(self, commit: Commit, stored: list[object]) -> None:
        for index, event in enumerate(stored):
            try:
                self.app.upcast([event])
            except HandlerFailed as error:
                self._note(commit, index, tag_of(type(event)), True, error.problem)

    def _note(self, commit: Commit, index: int, name: str, known: bool, problem: str) -> None:
        place = (name, known)
        before = self.unreadable.get(place)
        if before is None:
            position = commit.position + index
            self.unreadable[place] = UnreadableEvent(name, 1, commit.number, position, known, problem)
        else:
            self.unreadable[place] = replace(before, count=before.count + 1)


class _Name(msgspec.Struct):
    type: str = ""


class _Typed(msgspec.Struct):
    events: list[_Name] = []


async def survey(
    log: Log, app: App, *, after: int = 0, read_bytes_max: int = 1024 * 1024, slicer: Slicer | None = None
) -> Survey:
    """Read each event from commit ``after`` on as ``app`` would; nothing is applied, and nothing is changed.

    Args:
        log: an open or attached log.
        app: whose classes are to read it.
        after: the number of the commit before the first one to look at.
        read_bytes_max: about how much is read at once.
        slicer: says when to rest.

    Raises:
        LogCorrupt: a commit's body is no array of commands. Digests are not looked at: `verify_log` does that.
    """
    slicer, tally = slicer or Slicer(2.0), _Tally(app)
    head = Head(number=after)
    while commits := await log.read(head.number, read_bytes_max):
        for commit in commits:
            tally.take(log.name, commit)
            if slicer.is_over:
                await slicer.rest()
        head = Head(number=commits[-1].number)
    unreadable = sorted(tally.unreadable.values(), key=lambda each: each.position)
    return Survey(tally.commits, tally.events, dict(tally.types), unreadable)

"""How an engine comes to write: it takes the log, or stands by until it can.

Here: the two ways in, and the way from one to the other. Not here: following (`standby`), what an engine does once it
writes (`engine`).
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from dataclasses import dataclass
from functools import partial

import anyio

from millstream.engine.commits.commit import Head
from millstream.engine.commits.follower import Follower
from millstream.engine.errors import LogLocked, LogRefused, WriterUnavailable
from millstream.engine.loop.clock import elapsed
from millstream.engine.loop.slices import Slicer
from millstream.engine.loop.uncancelled import to_the_end
from millstream.engine.outside.outside import Outside
from millstream.engine.recovery.catalog import Catalog, attached_catalog
from millstream.engine.recovery.mending import Mending
from millstream.engine.recovery.recovery import Recovery
from millstream.engine.standby.standby import Standby
from millstream.engine.stores.owner import require_owner
from millstream.engine.stores.port import Log
from millstream.engine.stores.snapshot_port import SnapshotStore
from millstream.engine.stores.turn import opened_in_turn
from millstream.engine.write.mailbox import Mailbox
from millstream.engine.write.parts import WriteParts
from millstream.engine.write.writer import Writer

__all__ = ["Leading", "Opening"]

#: How long a process that has the log locked may take to make it, and how often it is looked at meanwhile.
_MAKING_SECONDS_MAX = 5.0
_AGAIN_SECONDS = 0.05


@dataclass
class Opening:
    """How an engine is opened. One attribute instead of many: CPython shares the keys of 29 at most."""

    freeze_gc: bool
    lock_seconds: float
    address: str | None
    may_stand_by: bool
    #: While another writer has the log.
    standby: Standby | None = None


class Leading(Mending):
    """An engine on its way to writing."""

    log: Log
    followers: list[Follower]
    effects: Outside
    _opening: Opening
    _snapshots: SnapshotStore | None
    _writer: Writer
    _mailbox: Mailbox
    _tasks: list[asyncio.Task[None]]

    @abstractmethod
    async def _lead(self, catalog: Catalog, write: WriteParts, head: Head, saved: int) -> None:
        """Begin to write."""

    async def _take_log(self) -> bool:
        """Open the log for writing, once no other process has it open; False where this one is to stand by."""
        seconds, address = self._opening.lock_seconds, self._opening.address
        until = elapsed() + _MAKING_SECONDS_MAX
        while True:
            try:
                self._writer.holds(await opened_in_turn(self.log, self.app.name, address, seconds, self.observers))
                return True
            except LogLocked:
                if not self._opening.may_stand_by:
                    raise
            await to_the_end(self.log.close())
            try:
                require_owner(self.log.name, await to_the_end(self.log.attach()), self.app.name)
                return False
            except LogRefused:
                if elapsed() > until:
                    raise
            await anyio.sleep(_AGAIN_SECONDS)  # the writer is making it

    async def _stand_by(self) -> None:
        """Make everything that the log holds, and follow it from there."""
        write = WriteParts(self.app, self.limits, self.log)
        parts = [*write.all, *self._states]
        async with attached_catalog(self._snapshots, self.log, self.observers) as catalog:
            recovery = Recovery(self.app, self.log, self.limits, catalog)
            recovered = await recovery.recover(parts, Slicer(self.limits.slice_ms_max))
        for follower in self.followers:
            follower.start(recovered.head)
        standby = Standby(self.app, self.log, self.limits, self._views, write, recovered, self.observers)
        self._opening.standby = standby
        self._mailbox.close(standby.refusal)
        head, leader = recovered.head, await self.log.leader()
        self.observers.stands_by(
            log=self.log.name, app=self.app.name, commits=head.number, events=head.position, leader=leader
        )

    async def _write(self) -> None:
        """The writer's life; a standby's begins with its turn."""
        if (standby := self._opening.standby) is not None:
            try:
                self._writer.holds(await standby.turn(self._opening.address))
                started, behind = elapsed(), len(self.followers)
                catalog = await Catalog.opened(
                    self._snapshots, self.log, self.observers, kept_max=self.limits.snapshots_kept
                )
                await self._lead(catalog, standby.write, standby.head, standby.saved)
            except Exception as error:
                self.observers.writer_stopped(log=self.log.name, commit=standby.head.number, error=error)
                self._mailbox.close(partial(WriterUnavailable, f"it could not take over: {error}"))
                await to_the_end(self.log.close())  # another one may
                raise
            self._opening.standby = None
            self._tasks[-1:-1] = [asyncio.create_task(each.run()) for each in self.followers[behind:]]
            await self.effects.entered()
            head = self._writer.head
            self.observers.took_over(
                log=self.log.name,
                app=self.app.name,
                commits=head.number,
                events=head.position,
                seconds=elapsed() - started,
            )
        await self._writer.run()

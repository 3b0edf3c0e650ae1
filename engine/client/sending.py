"""Sending many commands, some calls ahead of their outcomes: what `Client.execute_many` does.

Here: which calls are under way, and waiting for them. Not here: what is in them (`parcels`), how a call gets where it
goes (`link`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, MutableMapping, Sequence
from typing import Any

from msgspec import Raw

from millstream.engine.application.messages import Command, Receipt
from millstream.engine.application.options import Deadline
from millstream.engine.client.calls import Call
from millstream.engine.client.link import Link
from millstream.engine.client.parcels import Parcel, commands_max_of, unpack
from millstream.engine.client.timeouts import Alarm
from millstream.engine.errors import DeadlineExceeded, MillstreamError
from millstream.engine.loop.clock import elapsed
from millstream.engine.loop.slices import Slicer

__all__ = ["Sending"]

_SLICE_MS_MAX = 2.0


class Sending:
    """One `execute_many`.

    Args:
        link: where its calls go.
        todo: its commands.
        outcomes: takes what became of each, by its place.
        deadline: when its caller gives up.
    """

    def __init__(
        self,
        link: Link,
        todo: Sequence[Command],
        outcomes: MutableMapping[int, Receipt[Any] | MillstreamError],
        deadline: Deadline | None,
    ) -> None:
        self._link = link
        self._todo = todo
        self._outcomes = outcomes
        self._deadline = deadline
        #: In the order in which they were sent.
        self._underway: deque[tuple[Call, asyncio.Future[Raw], Parcel]] = deque()
        #: Those that an alarm looks at.
        self._calls: list[Call] = []

    async def all(self, parcels: Iterable[Parcel]) -> list[Receipt[Any] | MillstreamError]:
        """Send all, and wait for the outcome of each command."""
        limits = self._link.limits
        most = max(1, limits.in_flight_max // commands_max_of(limits))
        alarm = None
        if self._deadline is not None:
            alarm = Alarm(self._link, self._calls, self._deadline, limits.late_seconds_max)
        slicer = Slicer(_SLICE_MS_MAX)
        try:
            for parcel in parcels:
                self._send(parcel)
                if len(self._underway) >= most:
                    await self._oldest()
                if slicer.is_over:
                    await slicer.rest()
            while self._underway:
                await self._oldest()
        finally:
            for _, promise, _ in self._underway:  # the caller was cancelled: these outcomes have no taker
                if not promise.cancel():
                    promise.exception()
            if alarm is not None:
                alarm.cancel()
        return [self._outcomes[place] for place in range(len(self._todo))]

    def _send(self, parcel: Parcel) -> None:
        promise: asyncio.Future[Raw] = asyncio.get_running_loop().create_future()
        deadline, name = self._deadline, "execute_many"
        call = Call(
            name.encode(),
            parcel.params,
            promise,
            name=name,
            changes=True,
            repeatable=parcel.repeatable,
            deadline=deadline,
            commands=len(parcel.places),
        )
        self._underway.append((call, promise, parcel))
        try:
            if deadline is not None and elapsed() >= deadline.at:
                raise DeadlineExceeded(name, deadline.timeout_seconds, decided=False)
            self._link.send(call)
        except MillstreamError as error:
            promise.set_exception(error)
        else:
            if deadline is not None:
                self._calls.append(call)

    async def _oldest(self) -> None:
        """Wait for the outcomes of what was sent first."""
        call, promise, parcel = self._underway[0]
        await asyncio.wait([promise])
        self._underway.popleft()
        outcome = promise.exception() or promise.result()
        commands = [self._todo[place] for place in parcel.places]
        outcomes = unpack(call, outcome, commands, self._link.believed)
        # What a server that does not write refuses, it refuses whole.
        if all(isinstance(each, MillstreamError) and self._link.leads_on(call, each) for each in outcomes):
            self._send(parcel)
        else:
            self._outcomes.update(zip(parcel.places, outcomes, strict=True))

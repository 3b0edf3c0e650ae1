"""The pages of an agenda that were begun: of each looker, which entries there were when the first page was asked for.

Here: their names, and how far a looker has come. Not here: what a page has (`listing`), and who asks (`owing`).

A page is made of the names that were there at the first one, so that all pages together come to an end whatever comes
and goes meanwhile. A caller that does not come back is forgotten when others begin.

Invariant: what is kept is bounded by `PAGINGS_MAX` lists, and `PAGINGS_NAMES_MAX` names in them, which are the agenda's
own. One list may have more.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from millstream.engine.application.agenda import PAGINGS_MAX, PAGINGS_NAMES_MAX
from millstream.engine.errors import InvalidMessage
from millstream.engine.stores.log_id import new_log_id
from millstream.engine.write.entries import Name

__all__ = ["Pages"]

#: Of which engine, whose pages, and how many of the names come before.
_PLACE = re.compile(r"([0-9a-f]{8})\.([0-9]{1,18})\.([0-9]{1,18})", re.ASCII)


class Pages:
    """What lookers have begun, latest last."""

    __slots__ = ("_begun", "_count", "_names", "_own")

    def __init__(self) -> None:
        #: Another engine knows nothing of what this one has begun.
        self._own = new_log_id()[:8]
        self._count = 0
        self._begun: dict[int, Sequence[Name]] = {}
        #: How many names these are together.
        self._names = 0

    def begin(self, names: Sequence[Name], at: int) -> str:
        """Keep the names that were there at a first page, which has the first ``at``. Returns where the next begins."""
        self._count += 1
        self._begun[self._count] = names
        self._names += len(names)
        while len(self._begun) > PAGINGS_MAX or (self._names > PAGINGS_NAMES_MAX and len(self._begun) > 1):
            self._names -= len(self._begun.pop(next(iter(self._begun))))
        return self._place(self._count, at)

    def find(self, after: str) -> tuple[Sequence[Name], int]:
        """The names of which the page that follows has some, and how many come before.

        Raises:
            InvalidMessage: no page has said so; or its names are kept no more.
        """
        found = _PLACE.fullmatch(after)
        if found is None:
            raise InvalidMessage("agenda", "`after` is what the page before it has as `next`")
        whose, at = int(found[2]), int(found[3])
        if found[1] != self._own or (names := self._begun.pop(whose, None)) is None:
            raise InvalidMessage(
                "agenda",
                f"it is not known any more which entries were to follow: the {PAGINGS_MAX:,} who began last are "
                "remembered, until the writer's process ends; begin with the first page",
            )
        self._begun[whose] = names
        return names, at

    def after(self, after: str, at: int) -> str:
        """Where the page begins that follows the one which began at ``after``."""
        return self._place(int(after.split(".")[1]), at)

    def _place(self, whose: int, at: int) -> str:
        return f"{self._own}.{whose}.{at}"

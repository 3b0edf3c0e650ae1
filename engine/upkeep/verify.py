"""Reading a whole log to see that it is what was written.

Two things are looked at: the chain of digests, commit by commit, and the structure of what holds it. The first is the
same for every store, and names the commit; the second, where a store has it, finds what no commit's content shows.

Invariants: nothing is changed, a writer is never made to wait, and the loop is not held longer than one slice and one
commit's bytes (some 3 ns a byte).
"""

from __future__ import annotations

from collections.abc import Callable

from millstream.engine.loop.slices import Slicer
from millstream.engine.stores.capabilities import Inspectable
from millstream.engine.stores.port import Log
from millstream.engine.stores.reader import PAGE_BYTES, SLICE_MS
from millstream.engine.upkeep.errors import DigestMissing
from millstream.engine.upkeep.verified import Verification, Verified

__all__ = ["verify_log"]


async def verify_log(
    log: Log, *, expect: bytes | None = None, progress: Callable[[Verified], None] | None = None
) -> Verified:
    """Read a log from its first commit to its last, and see that each is the one that was written.

    Commits that are appended meanwhile are read, too. What this proves: before the digest that is returned nothing
    was changed, dropped, moved or added, but by a program that computes digests. A log that was cut off after a
    commit, or written anew, is whole by itself; only a digest that was noted elsewhere, ``expect``, shows that.

    Args:
        log: open, or attached.
        expect: a digest that an earlier call returned: one of the commits must have it.
        progress: called after each page with what was found until then.

    Raises:
        LogCorrupt: names the first commit that is not what was written. For damage of the file that no commit shows,
            that is the one after the last.
        DigestMissing: every commit follows the one before, and none has the digest ``expect``. A `LogCorrupt`.
    """
    verification = Verification(log.name, expect)
    if isinstance(log, Inspectable):
        await log.check_rows()
    await _follow(log, verification, progress)
    if isinstance(log, Inspectable):
        await log.check_structure(verification.head.number)
    if expect is not None and verification.expected_at is None:
        raise DigestMissing(log.name, verification.head.number, expect)
    return verification.so_far()


async def _follow(log: Log, verification: Verification, progress: Callable[[Verified], None] | None) -> None:
    slicer = Slicer(SLICE_MS)
    while page := await log.read(verification.head.number, PAGE_BYTES):
        for commit in page:
            verification.follow(commit)
            if slicer.is_over:
                await slicer.rest()
        if progress is not None:
            progress(verification.so_far())

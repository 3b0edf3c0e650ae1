"""What verifying, exporting and importing report: how much of a log was found to be whole.

Pure: no file, no loop. Not here: by which rules a commit follows another (`commits.chain`).
"""

from __future__ import annotations

import msgspec

from millstream.engine.commits.chain import Chain
from millstream.engine.commits.commit import Commit, Head
from millstream.engine.loop.clock import elapsed

__all__ = ["Verification", "Verified"]


class Verified(msgspec.Struct, frozen=True):
    """What was found to be whole: the log up to the commit ``commits``, whose digest vouches for all before it.

    ``digest`` is 32 zero bytes and ``recorded_at`` empty where there is no commit. ``size_bytes`` is that of the
    bodies. ``expected_at`` is the number of the commit that has the digest which was asked for; None where none was, or
    where it was not met yet.
    """

    commits: int
    events: int
    size_bytes: int
    recorded_at: str
    digest: bytes
    seconds: float
    expected_at: int | None = None

    @property
    def mb_per_second(self) -> float:
        """Millions of bytes of bodies a second, reading and all other checks included."""
        return self.size_bytes / self.seconds / 1e6 if self.seconds > 0 else 0.0


class Verification:
    """A log's commits, taken one after another from the first, and what is found out about them.

    Args:
        name: what errors call the log.
        expect: a digest that one of the commits should have.
    """

    def __init__(self, name: str, expect: bytes | None = None) -> None:
        self._chain = Chain(name)
        self._expect = expect
        self._since = elapsed()
        self._size_bytes = 0
        #: The number of the commit that has the expected digest; 0 when it is the digest of an empty log.
        self.expected_at = 0 if expect == self.head.digest else None

    @property
    def head(self) -> Head:
        """The last commit that was taken."""
        return self._chain.head

    def follow(self, commit: Commit) -> None:
        """Take the next commit.

        Raises:
            LogCorrupt: it is not the one that was written after the last, as `Chain.take` says.
        """
        self._chain.take(commit)
        self._size_bytes += len(commit.body)
        if commit.digest == self._expect:
            self.expected_at = commit.number

    def so_far(self) -> Verified:
        """What was found to be whole until now."""
        head = self.head
        return Verified(
            commits=head.number,
            events=head.position,
            size_bytes=self._size_bytes,
            recorded_at=head.recorded_at,
            digest=head.digest,
            seconds=elapsed() - self._since,
            expected_at=self.expected_at,
        )

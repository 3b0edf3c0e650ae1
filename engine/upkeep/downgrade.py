"""The way back: a log's commits as format 1 has them, for a millstream that is older than this log.

Pure: one commit in, one commit out. Not here: reading the log, and writing the lines (`exchange`).

Another body has another digest, so what comes out is a chain of its own: a digest that was noted of the log is
not in it.
"""

from __future__ import annotations

from collections import Counter

import msgspec

from millstream.engine.commits.body import UNREADABLE, body_reader
from millstream.engine.commits.chain import unreadable
from millstream.engine.commits.commit import Commit, Head, seal
from millstream.engine.commits.rows import rows_of
from millstream.engine.errors import LogRefused

__all__ = ["Downgrade"]

_read_body = body_reader((msgspec.Raw,))


class Downgrade:
    """Makes commits of format 1, one after another.

    Args:
        log: what errors call the log.
    """

    def __init__(self, log: str) -> None:
        self._log = log
        #: The last commit that was made.
        self.head = Head()
        #: What format 1 has no place for, and how often it was left out.
        self.dropped: Counter[str] = Counter()

    def take(self, commit: Commit) -> Commit:
        """The next commit, as format 1 has it.

        Raises:
            LogRefused: it needs what only a newer format has.
            LogCorrupt: its body is none of a commit.
        """
        try:
            body = _read_body(commit.body)
            records = list(body.records())
        except UNREADABLE as error:
            raise unreadable(self._log, commit, error) from error
        if body.needs:
            needs = ", ".join(map(repr, body.needs))
            problem = f"commit {commit.number:,} needs {needs}, which format 1 has no place for"
            raise LogRefused(self._log, problem, "there is no way back: go on with this log")
        self.dropped["tenure"] += body.tenure is not None
        self.dropped["trace"] += sum(record.trace is not None for record in records)
        self.dropped["extra"] += sum(record.extra is not None for record in records)
        for what, count in (
            ("answer", sum(record.answer is not None for record in records)),
            ("origin", sum(record.origin is not None for record in records)),
            ("refused", sum(record.refused is not None for record in records)),
        ):
            if count:
                self.dropped[what] += count
        records = [record for record in records if record.refused is None]
        text = commit.body if commit.body[0:1] == b"[" else rows_of(records)
        made = seal(self.head, commit.recorded_at, text)
        self.head = Head.after(made, len(body.events))
        return made

"""What `stats()` says of the writer."""

from __future__ import annotations

from millstream.engine.commits.commit import moment_of
from millstream.engine.limits import Limits
from millstream.engine.stats import WriterStats
from millstream.engine.write.writer import Writer

__all__ = ["writer_stats"]


def writer_stats(writer: Writer, limits: Limits) -> WriterStats:
    """Figures of this moment.

    Args:
        writer: whose.
        limits: the engine's: what is worth a word.
    """
    counts, mailbox = writer.counts, writer.mailbox
    return WriterStats(
        status=writer.status,
        commit=writer.head.number,
        position=writer.head.position,
        mailbox_commands=len(mailbox.queue),
        mailbox_commands_max=mailbox.commands_max,
        mailbox_entering=mailbox.entering,
        commits=counts.commits,
        commands=counts.commands,
        commands_refused=counts.refused,
        commands_failed=counts.failed,
        batch_last=counts.batch_last,
        batch_max=counts.batch_max,
        batch_mean=counts.commands / counts.commits if counts.commits else 0.0,
        timers_not_there=counts.not_timed,
        commits_seconds=round(counts.seconds, 6),
        seconds_ahead=_seconds_ahead(writer, limits),
    )


def _seconds_ahead(writer: Writer, limits: Limits) -> float:
    ahead = (moment_of(writer.head) - writer.clock.now()).total_seconds()
    return round(ahead, 3) if ahead > limits.clock_jump_seconds_max else 0.0

"""What `stats()` says of the writer."""

from __future__ import annotations

from millstream.engine.stats import WriterStats
from millstream.engine.write.writer import Writer

__all__ = ["writer_stats"]


def writer_stats(writer: Writer) -> WriterStats:
    """Figures of this moment."""
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
    )

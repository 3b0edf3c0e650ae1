"""The marks on what is on disk: how our files are known, and what their parts are called.

Here: constants, and names made from them. Not here: formats, which may change; these may not.

The project was called penstock until 0.1, and logs, snapshots and exports outlive the programs that wrote them. So
these marks stay what they were then: every file of 0.1 opens unchanged. Nothing else here has the old name.
"""

from __future__ import annotations

__all__ = [
    "AGENDA_PART",
    "EXPORT",
    "EXPORT_MARK",
    "LEDGER",
    "LOG_APPLICATION_ID",
    "SNAPSHOTS_APPLICATION_ID",
    "model_part",
    "view_part",
]

#: SQLite's ``application_id`` of a log: "PSTK". ``file bank.db`` shows it.
LOG_APPLICATION_ID = 0x5053544B

#: SQLite's ``application_id`` of a file of snapshots: "PSTS".
SNAPSHOTS_APPLICATION_ID = 0x50535453

#: The first member of an export's first line: ``{"penstock":"log",…}``.
EXPORT_MARK = "penstock"
EXPORT = "log"

#: The part of a snapshot that holds receipts and versions.
LEDGER = "ledger"

#: The part of a snapshot that holds what is owed and what is parked.
AGENDA_PART = "agenda"


def model_part(name: str) -> str:
    """What the part of a snapshot is called that holds the write model of this class."""
    return f"model {name}"


def view_part(name: str) -> str:
    """What the part of a snapshot is called that holds the view of this class."""
    return f"view {name}"

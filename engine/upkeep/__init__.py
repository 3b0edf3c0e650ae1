"""Looking after a log that exists: verifying it, copying it while it is written, carrying it elsewhere."""

from penstock.engine.upkeep.attached import attached, require_owner
from penstock.engine.upkeep.backup import backup_log
from penstock.engine.upkeep.chain import Verified
from penstock.engine.upkeep.errors import BackupFailed, DigestMissing, ExportDamaged, ExportRefused, TargetRefused
from penstock.engine.upkeep.events import StoredEvent, stored_events
from penstock.engine.upkeep.exchange import export_log, import_log
from penstock.engine.upkeep.states import differing_parts, parked_in
from penstock.engine.upkeep.verify import verify_log

__all__ = [
    "BackupFailed",
    "DigestMissing",
    "ExportDamaged",
    "ExportRefused",
    "StoredEvent",
    "TargetRefused",
    "Verified",
    "attached",
    "backup_log",
    "differing_parts",
    "export_log",
    "import_log",
    "parked_in",
    "require_owner",
    "stored_events",
    "verify_log",
]

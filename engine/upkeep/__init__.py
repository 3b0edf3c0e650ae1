"""Looking after a log that exists: verifying it, copying it while it is written, carrying it elsewhere."""

from millstream.engine.read.storage import StoredAs
from millstream.engine.stores.events import StoredEvent, stored_events
from millstream.engine.upkeep.agenda import RefusedEntry, agenda_in, refused_in, settle_entry
from millstream.engine.upkeep.attached import attached
from millstream.engine.upkeep.backup import backup_log
from millstream.engine.upkeep.downgrade import Downgrade
from millstream.engine.upkeep.errors import BackupFailed, DigestMissing, ExportDamaged, ExportRefused, TargetRefused
from millstream.engine.upkeep.exchange import export_log, import_log
from millstream.engine.upkeep.snapshots import TakenSnapshots, take_snapshots
from millstream.engine.upkeep.states import ComparedState, compared_states, differing_parts, parked_in
from millstream.engine.upkeep.stored_views import drop_stored_view, stored_views
from millstream.engine.upkeep.verified import Verified
from millstream.engine.upkeep.verify import verify_log
from millstream.engine.upkeep.views import ComparedAnswer, MadeView, compare_answers, make_views

__all__ = [
    "BackupFailed",
    "ComparedAnswer",
    "ComparedState",
    "DigestMissing",
    "Downgrade",
    "ExportDamaged",
    "ExportRefused",
    "MadeView",
    "RefusedEntry",
    "StoredAs",
    "StoredEvent",
    "TakenSnapshots",
    "TargetRefused",
    "Verified",
    "agenda_in",
    "attached",
    "backup_log",
    "compare_answers",
    "compared_states",
    "differing_parts",
    "drop_stored_view",
    "export_log",
    "import_log",
    "make_views",
    "parked_in",
    "refused_in",
    "settle_entry",
    "stored_events",
    "stored_views",
    "take_snapshots",
    "verify_log",
]

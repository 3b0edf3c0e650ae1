"""The write side: models and aggregates that decide, and events that are no longer written."""

from millstream.engine.application.methods import applies
from millstream.engine.errors import Rejected
from millstream.handlers.aggregate import Aggregate
from millstream.handlers.model import WriteModel, handles
from millstream.handlers.reacting import Reaction, reacts
from millstream.handlers.retired import Retired

__all__ = ["Aggregate", "Reaction", "Rejected", "Retired", "WriteModel", "applies", "handles", "reacts"]

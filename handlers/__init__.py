"""The write side: models that decide, and events that are no longer written."""

from millstream.engine.application.methods import applies
from millstream.engine.errors import Rejected
from millstream.handlers.model import WriteModel, handles
from millstream.handlers.retired import Retired

__all__ = ["Rejected", "Retired", "WriteModel", "applies", "handles"]

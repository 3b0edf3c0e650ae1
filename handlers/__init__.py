"""The write side: models that decide, and events that are no longer written."""

from penstock.engine.declare import applies
from penstock.engine.errors import Rejected
from penstock.handlers.model import WriteModel, handles
from penstock.handlers.retired import Retired

__all__ = ["Rejected", "Retired", "WriteModel", "applies", "handles"]

"""The write side: models that decide."""

from penstock.engine.declare import applies
from penstock.engine.errors import Rejected
from penstock.handlers.model import WriteModel, handles

__all__ = ["Rejected", "WriteModel", "applies", "handles"]

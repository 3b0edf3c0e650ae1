"""The write side: models and aggregates that decide, and events that are no longer written."""

from millstream.engine.application.effects import Attempt
from millstream.engine.application.methods import applies
from millstream.engine.application.schedules import Schedule, Unschedule
from millstream.engine.errors import Rejected
from millstream.handlers.aggregate import Aggregate
from millstream.handlers.effects import Effects, gave_up, performs
from millstream.handlers.model import WriteModel, handles
from millstream.handlers.reacting import Decision, Reaction, answer_of, reacts
from millstream.handlers.retired import Retired

__all__ = [
    "Aggregate",
    "Attempt",
    "Decision",
    "Effects",
    "Reaction",
    "Rejected",
    "Retired",
    "Schedule",
    "Unschedule",
    "WriteModel",
    "answer_of",
    "applies",
    "gave_up",
    "handles",
    "performs",
    "reacts",
]

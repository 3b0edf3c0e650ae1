"""The read side: views that answer from memory."""

from penstock.engine.declare import applies
from penstock.views.view import View, answers

__all__ = ["View", "answers", "applies"]

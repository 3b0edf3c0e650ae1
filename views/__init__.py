"""The read side: views that answer from memory."""

from millstream.engine.application.methods import applies
from millstream.views.table import Page, TableView
from millstream.views.timeline import Step, Timeline, TimelineOf, TimelinePage
from millstream.views.view import View, answers

__all__ = ["Page", "Step", "TableView", "Timeline", "TimelineOf", "TimelinePage", "View", "answers", "applies"]

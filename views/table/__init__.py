"""Tables: views whose state is rows in memory, found by indexes."""

from millstream.views.table.view import Page, TableView

__all__ = ["Page", "TableView"]

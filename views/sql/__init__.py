"""Views whose state lies in a database of their own. Needs the extra ``millstream[sql]``: SQLAlchemy 2."""

from millstream.views.sql.batches import Statement
from millstream.views.sql.row_steps import RowStep
from millstream.views.sql.table import SqlTable
from millstream.views.sql.view import SqlView

__all__ = ["RowStep", "SqlTable", "SqlView", "Statement"]

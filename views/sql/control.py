"""Statements that would begin or end a transaction: an event has none to control.

Here: what a text says. Not here: what a database does about it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Executable, TextClause
from sqlalchemy.schema import DDL
from sqlalchemy.sql.selectable import TextualSelect

__all__ = ["control_in"]

#: What is no word of a statement: texts, names, comments.
_QUOTED = re.compile(
    r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|\$(\w*)\$.*?\$\1\$|--[^\n]*|/\*.*?\*/",
    re.DOTALL,
)
_CONTROL = re.compile(
    r"(?:abort|begin|commit|end|release|rollback|savepoint|start\s+transaction|prepare\s+transaction|"
    r"set\s+transaction|set\s+session\s+characteristics)\b",
    re.IGNORECASE,
)


def control_in(statement: Executable) -> str | None:
    """What of a statement begins or ends a transaction; None if nothing does. Only a text can."""
    for text in _texts_of(statement):
        for piece in _QUOTED.sub(" ", text).split(";"):
            if found := _CONTROL.match(piece.strip()):
                return found.group().upper()
    return None


def _texts_of(statement: Executable) -> Iterator[str]:
    clause: Any = statement.element if isinstance(statement, TextualSelect) else statement
    if isinstance(clause, TextClause):
        yield clause.text
    elif isinstance(statement, DDL):
        yield str(statement.statement)

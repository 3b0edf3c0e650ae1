"""Whether what events could say when a snapshot was taken can be read today."""

from __future__ import annotations

import pytest

from millstream.engine.snapshots.stored_events import EventField, go_together, told

STRICT, TOLERANT = False, True
INT, TEXT = EventField("size", "int", True), EventField("size", "str", True)
NEW = EventField("colour", "str", False)
NEEDED = EventField("colour", "str", True)


@pytest.mark.parametrize(
    ("then", "now", "together"),
    [
        ([("Done", STRICT, [INT])], [("Done", STRICT, [INT])], True),
        ([("Done", STRICT, [INT])], [("Done", STRICT, [INT, NEW])], True),
        ([("Done", STRICT, [INT, NEW])], [("Done", STRICT, [INT])], False),
        ([("Done", STRICT, [INT, NEW])], [("Done", TOLERANT, [INT])], True),
        ([("Done", STRICT, [INT])], [("Done", STRICT, [TEXT])], False),
        ([("Done", TOLERANT, [INT])], [("Done", TOLERANT, [TEXT])], False),
        ([("Done", STRICT, [INT])], [("Done", STRICT, [INT, NEEDED])], False),
        ([("Done", STRICT, [INT, NEEDED])], [("Done", STRICT, [INT, NEW])], True),
        (
            [("Done", STRICT, [INT, NEW]), ("Also", STRICT, [])],
            [("Done", STRICT, [INT]), ("Also", TOLERANT, [])],
            False,
        ),
        ([("Done", STRICT, [])], [("Done", STRICT, [])], True),
        ([], [("Done", STRICT, [INT])], True),
    ],
)
def test_events_are_readable_if_today_knows_each_of_their_fields_and_misses_none(
    then: list[tuple[str, bool, list[EventField]]], now: list[tuple[str, bool, list[EventField]]], together: bool
) -> None:
    assert go_together(told(then), told(now)) is together


def test_what_is_told_does_not_depend_on_any_order() -> None:
    assert told([("A", STRICT, [INT, NEW]), ("B", STRICT, [])]) == told([("B", STRICT, []), ("A", STRICT, [NEW, INT])])

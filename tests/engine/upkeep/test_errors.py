from __future__ import annotations

import inspect

import pytest

from millstream.engine import LogCorrupt, LogRefused, MillstreamError
from millstream.engine.upkeep import errors
from millstream.engine.upkeep.errors import BackupFailed, DigestMissing, ExportDamaged, ExportRefused, TargetRefused

#: Every error with its kind and its text: the thing, the state, the limit, the next step.
TEXTS: list[tuple[type[MillstreamError], MillstreamError, str]] = [
    (
        LogCorrupt,
        DigestMissing("bank.db", 1_200, bytes.fromhex("ab" * 32)),
        "log bank.db has 1,200 commits, each following the one before, but none with the digest " + "ab" * 32 + ": "
        "it was cut off at its end, or written anew; restore a backup that has it",
    ),
    (
        LogCorrupt,
        ExportDamaged("bank.jsonl", 1_002, "its digest does not match"),
        "export bank.jsonl is damaged at line 1,002: its digest does not match; the 1,000 commits before it are whole: "
        "export the log again, or go on with another copy",
    ),
    (
        LogCorrupt,
        ExportDamaged("bank.jsonl", 2, "it is not a commit"),
        "export bank.jsonl is damaged at line 2: it is not a commit; no commit before it: "
        "export the log again, or go on with another copy",
    ),
    (
        LogRefused,
        ExportRefused(
            "bank.jsonl", 1, "it has format 2, this millstream reads up to 1", "update millstream to import it"
        ),
        "export bank.jsonl is refused at line 1: it has format 2, this millstream reads up to 1; "
        "update millstream to import it",
    ),
    (
        LogRefused,
        BackupFailed("bank.db", "copy.db", "database or disk is full"),
        "log bank.db was not copied to copy.db: database or disk is full; "
        "see that there is room and that the folder can be written",
    ),
    (
        LogRefused,
        TargetRefused("copy.db", "it is there already", "name a file that is not there, or remove it first"),
        "file copy.db can't be made: it is there already; name a file that is not there, or remove it first",
    ),
]


@pytest.mark.parametrize(("kind", "error", "text"), TEXTS)
def test_each_says_the_thing_the_state_the_limit_and_the_next_step(
    kind: type[MillstreamError], error: MillstreamError, text: str
) -> None:
    assert isinstance(error, kind)
    assert str(error) == text


def test_each_error_is_in_the_table_and_in_the_tree_at_the_top() -> None:
    made = {name for name, each in inspect.getmembers(errors, inspect.isclass) if each.__module__ == errors.__name__}
    assert made == set(errors.__all__) == {type(error).__name__ for _, error, _ in TEXTS}
    assert all(f"── {name} " in (errors.__doc__ or "") for name in made)

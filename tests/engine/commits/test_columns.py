"""Format 2: what is written of commands is read back, by the engine, by json alone, and by SQLite."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.bench.proofs.bodies import commands_in
from millstream.engine import Event, Key, LogCorrupt, LogRefused, Metadata, SqliteLog
from millstream.engine.commits.body import body_reader, events_in, mismatches
from millstream.engine.commits.chain import Chain
from millstream.engine.commits.columns import Sheet, UnknownFeature
from millstream.engine.commits.commit import Head, seal
from millstream.engine.commits.record import Record, Tenure

pytestmark = pytest.mark.anyio

AT = "2026-01-01T00:00:00.000000Z"


class Paid(Event, tag="money.paid"):
    account: Key = msgspec.field(name="acc-ount")
    amount: int = 0


class Noted(Event):
    text: str


class Moved(Event):
    start: Key
    amount: int = 0


KEYS = {"money.paid": "acc-ount", "Moved": "start"}
NAMES = st.sampled_from(["ann", "bob", "ü", 'q"\\'])
TEXTS = st.none() | st.sampled_from(["x", "ü", ""])
EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(Paid, NAMES, st.integers(0, 9)), st.builds(Noted, st.text(max_size=3)), st.builds(Moved, NAMES)
)
ANSWERS = st.sampled_from([None, b"0", b"[1,2]", b'{"a":"b"}', b'"null"'])
METADATA = st.none() | st.builds(
    Metadata, TEXTS, TEXTS, TEXTS, TEXTS, st.none() | st.dictionaries(st.sampled_from("ab"), st.text(max_size=2))
)


def key_of(event: Event) -> str | None:
    return event.account if isinstance(event, Paid) else event.start if isinstance(event, Moved) else None


@st.composite
def recorded(draw: st.DrawFn) -> list[Record[Event]]:
    """Commands as a commit has them."""
    made: list[Record[Event]] = []
    offset = 0
    for number in range(draw(st.integers(0, 6))):
        events = draw(st.lists(EVENTS, min_size=draw(st.sampled_from([0, 1, 1, 1])), max_size=3))
        keys = [key_of(event) for event in events]
        key = draw(st.sampled_from([keys[0] if keys else "eve", "eve", None]))
        told = draw(METADATA) or Metadata()
        made.append(
            Record(
                draw(st.sampled_from(["Do", "Undo"])),
                key,
                command_id := draw(st.none() | st.just(f"id-{number}")),
                None if command_id is None else "aa",
                told.actor,
                told.correlation,
                told.causation,
                offset,
                None if all(each == key for each in keys) else keys,
                events,
                told.trace,
                told.extra,
                answer=None if command_id is None else draw(ANSWERS),
            )
        )
        offset += len(events)
    return made


def body_of(records: list[Record[Event]], tenure: Tenure | None = None, each: int = 2) -> bytes:
    """As the writer makes it, so many events encoded at once."""
    sheet, events = Sheet(), [event for record in records for event in record.events]
    for record in records:
        sheet.types.append(record.type)
        if len(record.events) != 1:
            sheet.note("counts", len(record.events), 1)
        if record.key != (key_of(record.events[0]) if record.events else None):
            sheet.note("keys", False if record.key is None else record.key)
        if record.id is not None:
            sheet.note_id(record.id, str(record.payload))
        if record.answer is not None:
            sheet.note("answers", msgspec.Raw(record.answer))
        sheet.note_metadata(Metadata(record.actor, record.correlation, record.causation, record.trace, record.extra))
    chunks = [msgspec.json.encode(events[start : start + each]) for start in range(0, len(events), each)]
    return sheet.body(chunks, KEYS, tenure)


read = body_reader([Paid, Noted, Moved])


@given(recorded(), st.none() | st.just(Tenure(7, "host:1", "millstream 2", "v1")), st.integers(1, 4))
def test_what_is_written_is_read_back(records: list[Record[Event]], tenure: Tenure | None, each: int) -> None:
    body = read(body_of(records, tenure, each))
    assert list(body.records()) == records
    assert body.events == [event for record in records for event in record.events]
    assert list(body.event_keys()) == [key_of(event) for event in body.events]
    assert body.has_ids == any(record.id for record in records)
    assert body.tenure == tenure


@given(recorded())
def test_json_alone_reads_the_same(records: list[Record[Event]]) -> None:
    plain = commands_in(body_of(records))
    assert plain == [in_json_alone(record) for record in records]
    assert events_in(body_of(records)) == sum(len(record["events"]) for record in plain)


def in_json_alone(record: Record[Event]) -> Any:
    answer = {} if record.answer is None else {"answer": json.loads(record.answer)}
    return json.loads(msgspec.json.encode(record)) | {"events": in_json(record)} | answer


def in_json(record: Record[Event]) -> Any:
    return json.loads(msgspec.json.encode(record.events))


class Forgot(Event, tag="money.paid"):
    """What `Paid` was read as once its class had lost the key."""

    amount: int = 0


@given(recorded())
def test_keys_are_found_where_a_class_does_not_have_them(records: list[Record[Event]]) -> None:
    class Lenient(Forgot, tag="money.paid", forbid_unknown_fields=False):
        """It passes over what it does not know."""

    body = body_of(records)
    assert list(body_reader([Lenient, Noted, Moved])(body).event_keys()) == list(read(body).event_keys())
    assert list(body_reader([msgspec.Raw])(body).event_keys()) == list(read(body).event_keys())


async def test_the_view_shows_what_the_columns_say(tmp_path: Path) -> None:
    told = Metadata("ann", "c", None, "00-1", {"tenant": "t"})
    first: list[Record[Event]] = [
        Record(
            "Pay", "ann", "p-1", "aa", told.actor, told.correlation, None, 0, None, [Paid("ann", 1)], "00-1", told.extra
        ),
        Record("Touch", "eve", offset=1),
        Record("Pay", "bob", offset=1, keys=["bob", None], events=[Paid("bob", 2), Noted("x")]),
    ]
    log = SqliteLog(tmp_path / "bank.db")
    await log.open("bank")
    commit = seal(Head(), AT, body_of(first))
    await log.append(commit)
    await log.append(seal(Head.after(commit, 3), AT, body_of([Record("Note", events=[Noted("alone")])])))
    await log.close()
    with closing(sqlite3.connect(tmp_path / "bank.db")) as db:
        found = db.execute("SELECT * FROM events ORDER BY position").fetchall()
    nobody = (None,) * 5
    assert found == [
        (1, 1, AT, "money.paid", "ann", '{"type":"money.paid","acc-ount":"ann","amount":1}', "p-1", "Pay", "ann", "c", None, "00-1", '{"tenant":"t"}'),
        (2, 1, AT, "money.paid", "bob", '{"type":"money.paid","acc-ount":"bob","amount":2}', None, "Pay", *nobody),
        (3, 1, AT, "Noted", None, '{"type":"Noted","text":"x"}', None, "Pay", *nobody),
        (4, 2, AT, "Noted", None, '{"type":"Noted","text":"alone"}', None, "Note", *nobody),
    ]  # fmt: skip


ODD: list[tuple[dict[str, Any], str]] = [
    ({"commands": 1}, "it does not say of which type its commands are"),
    ({"commands": 2, "type": "A"}, "it has 1 events of 2 commands, and does not say whose each is"),
    ({"commands": 2, "types": ["A"], "of": [0]}, "`types` has 1 places for 2 commands"),
    ({"commands": 1, "type": "A", "ids": [], "payloads": []}, "`ids` has 0 places for 1 commands"),
    ({"commands": 1, "type": "A", "ids": ["a"]}, "there are `ids` without `payloads`"),
    ({"commands": 1, "type": "A", "answers": [1]}, "there are `answers` without `ids`"),
    (
        {"commands": 1, "type": "A", "ids": ["a"], "payloads": ["b"], "answers": []},
        "`answers` has 0 places for 1 commands",
    ),
    ({"commands": -1, "of": []}, "`commands` is no number of them"),
    ({"commands": 1, "type": "A", "of": [1]}, "`of` does not say for each event which command it is of"),
    ({"commands": 2, "type": "A", "of": [-1]}, "`of` does not say"),
    ({"commands": 1, "type": "A", "of": [0, 0]}, "`of` does not say"),
    ({"commands": 1, "type": "A", "keys": [True]}, "`keys` has a place that is neither a key nor null nor false"),
    ({"commands": 1, "type": 5}, "Expected `str | null`, got `int`"),
    ({"commands": 1, "type": "A", "events": {}}, "Expected `array`, got `object`"),
]


@pytest.mark.parametrize(("members", "problem"), ODD)
def test_a_body_that_contradicts_itself_is_refused(members: dict[str, Any], problem: str) -> None:
    body = msgspec.json.encode({"events": [{"type": "Noted", "text": "x"}], **members})
    with pytest.raises(msgspec.DecodeError, match=problem):
        read(body)
    with pytest.raises(LogCorrupt, match="its body is not that of a commit"):
        Chain("bank.db").take(seal(Head(), AT, body))
    assert mismatches(body, [Paid, Noted, Moved]) == []


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"type": "Pay", "keys": ["a", "b"], "events": [{"type": "Noted", "text": "x"}]}, "2 `keys` for 1 events"),
    ],
)
def test_a_body_of_format_1_that_contradicts_itself_is_refused(row: dict[str, Any], problem: str) -> None:
    body = msgspec.json.encode([row])
    with pytest.raises(msgspec.DecodeError, match=problem):
        read(body)
    with pytest.raises(LogCorrupt, match=problem):
        Chain("bank.db").take(seal(Head(), AT, body))


def test_an_unknown_member_is_passed_over_and_an_unknown_need_is_refused_by_name() -> None:
    plain = {"events": [{"type": "Noted", "text": "x"}], "commands": 1, "type": "Note", "forgot": [{"who": "a"}]}
    assert read(msgspec.json.encode(plain)).events == [Noted("x")]
    body = msgspec.json.encode({**plain, "needs": ["forgetting"]})
    for look in (read, events_in):
        with pytest.raises(UnknownFeature, match="'forgetting'"):
            look(body)
    with pytest.raises(
        LogRefused, match="commit 1 needs what this millstream does not know: 'forgetting'; it is whole: update"
    ):
        Chain("bank.db").take(seal(Head(), AT, body))

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.engine import Event, Key
from millstream.engine.commits.body import body_reader, events_in, mismatches
from millstream.engine.commits.commit import GENESIS, Head, is_timestamp, timestamp
from tests.support import Row, sealed_rows


class Paid(Event):
    account: Key
    amount: int


class Closed(Event):
    account: Key


def record(*events: Event, offset: int = 0) -> Row:
    return Row("Pay", "ann", offset=offset, events=msgspec.Raw(msgspec.json.encode(events)))


def test_a_body_is_readable_json_with_what_the_caller_gave_and_no_more() -> None:
    plain = record(Paid("ann", 10))
    full = Row("Pay", "ann", "id-1", "aa", "bob", "c", "d", 1, ["ann", "eve"], msgspec.Raw(b"[]"))
    commit = sealed_rows(Head(), "2026-01-01T00:00:00.000000Z", [plain, full])
    assert commit.body == (
        b'[{"type":"Pay","key":"ann","events":[{"type":"Paid","account":"ann","amount":10}]},'
        b'{"type":"Pay","key":"ann","id":"id-1","payload":"aa","actor":"bob","correlation":"c","causation":"d","offset":1,'
        b'"keys":["ann","eve"],"events":[]}]'
    )


def test_numbers_and_positions_go_on_from_the_head() -> None:
    commit = sealed_rows(Head(4, 17, "2026-01-01T00:00:00.000000Z", b"x" * 32), "2026-01-01T00:00:01.000000Z", [])
    assert (commit.number, commit.position) == (5, 18)


def test_a_digest_is_written_down_once_so_that_the_format_does_not_drift() -> None:
    commit = sealed_rows(Head(), "2026-01-01T00:00:00.000000Z", [record(Paid("ann", 10))])
    assert bytes(32) == GENESIS
    assert commit.digest.hex() == "0e8fa3e837a7ad2265f1030f549158faa3913f84148c97128651c5adf046749d"


def test_events_are_read_back_in_order_and_counted() -> None:
    body = sealed_rows(
        Head(), "t", [record(Paid("ann", 1), Closed("ann")), record(), record(Paid("bob", 2), offset=2)]
    ).body
    records = list(body_reader([Paid, Closed])(body).records())
    assert [record.events for record in records] == [[Paid("ann", 1), Closed("ann")], [], [Paid("bob", 2)]]
    assert [record.key for record in records] == ["ann", "ann", "ann"]
    assert events_in(body) == 3


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (b'{"type":"Gone","account":"ann"}', (1, "Gone", False, "Invalid value 'Gone' - at `$.type`")),
        (
            b'{"type":"Paid","account":"ann","amount":"1"}',
            (1, "Paid", True, "Expected `int`, got `str` - at `$.amount`"),
        ),
        (b'{"type":"Paid","account":"ann"}', (1, "Paid", True, "Object missing required field `amount`")),
        (b'{"type":"Closed","account":"ann","x":1}', (1, "Closed", True, "Object contains unknown field `x`")),
    ],
)
def test_an_event_that_todays_classes_do_not_fit_is_described(
    event: bytes, expected: tuple[int, str, bool, str]
) -> None:
    body = b'[{"events":[{"type":"Closed","account":"ann"},' + event + b"]}]"
    with pytest.raises(msgspec.DecodeError):
        body_reader([Paid, Closed])(body)
    assert mismatches(body, [Paid, Closed]) == [expected]


def test_timestamps_have_a_fixed_width_so_that_text_order_is_time_order() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    later = datetime(2026, 1, 2, 5, 4, 5, 1, tzinfo=timezone(timedelta(hours=2)))
    assert timestamp(moment) == "2026-01-02T03:04:05.000000Z"
    assert timestamp(later) == "2026-01-02T03:04:05.000001Z"


@given(st.datetimes(timezones=st.timezones()))
def test_every_time_that_is_written_is_known_for_one(moment: datetime) -> None:
    try:
        text = timestamp(moment)
    except OverflowError:  # of the year 0 or 10000, in UTC
        return
    assert is_timestamp(text)


@given(st.text("0123456789-:TZ.+ W,_²", min_size=26, max_size=28) | st.text(max_size=30))
def test_what_is_known_for_a_time_is_what_is_written_for_it(text: str) -> None:
    for each in (text, f"2026-01-3{text[:1]}T00:00:00.000000Z", f"2026-01-01T00:00:00.00000{text[:1]}Z"):
        if is_timestamp(each):
            assert timestamp(datetime.fromisoformat(each)) == each


@pytest.mark.parametrize(
    "text",
    [
        "",
        "zzz",
        "2026-01-01T00:00:00Z",
        "2026-01-01 00:00:00.000000Z",
        "2026-01-01T00:00:00.000000z",
        "2026-02-29T00:00:00.000000Z",
        "2026-01-01T24:00:00.000001Z",
        "2026-01-01T00:00:60.000000Z",
        "0000-01-01T00:00:00.000000Z",
        "2026-01-01T00:00:00,000000Z",
        "２026-01-01T00:00:00.000000Z",  # noqa: RUF001
        "2026-01-01T00:00:00.0+00:00",
    ],
)
def test_what_only_looks_like_a_time_is_none(text: str) -> None:
    assert not is_timestamp(text)

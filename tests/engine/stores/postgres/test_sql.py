"""What PostgreSQL itself shows of a log, and who may make one there."""

from __future__ import annotations

import json
import secrets
from typing import Any

import msgspec
import pytest

from millstream.engine import Engine, LogRefused, Metadata
from millstream.engine.commits.commit import Head, seal
from millstream.engine.stores.postgres.log import PostgresLog
from millstream.engine.stores.postgres.settings import settings_of
from millstream.engine.testing.stores.written import APP
from millstream.engine.upkeep import attached, stored_events
from tests.postgres import new_address, script, sql
from tests.selling import Order, selling

pytestmark = pytest.mark.anyio

COLUMNS = (
    "position, number, recorded_at, type, key, command_id, command, actor, correlation, causation, trace, extra, data"
)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": False}


def rows_of(address: str) -> list[tuple[Any, ...]]:
    place = settings_of(address).place
    rows = sql(address, f"SELECT {COLUMNS} FROM {place}.events ORDER BY position")
    return [(*row[:-2], row[-2] and json.loads(row[-2]), json.loads(row[-1])) for row in rows]


async def stored_rows(address: str) -> list[tuple[Any, ...]]:
    async with attached(address) as (log, _):
        return [
            (
                *(event.position, event.commit, event.recorded_at, event.type, event.key, event.command_id),
                *(event.command, event.actor, event.correlation, event.causation, event.trace, event.extra),
                json.loads(bytes(event.data)),
            )
            async for event in stored_events(log)
        ]


async def test_the_view_shows_each_event_with_what_led_to_it_and_what_its_caller_said() -> None:
    address = new_address()
    async with Engine(selling, log=address) as engine:
        said = Metadata(actor="ann", correlation="c", causation="mail", trace="00-1", extra={"a": "b"})
        await engine.execute(Order("o1", "s", 3), command_id="one", metadata=said)
        await engine.execute_many([Order("o2", "s", 9), Order("o3", "t", 1)], command_ids=["two", "three"])
    found = await stored_rows(address)
    assert len(found) == 6
    assert [row[3] for row in found[:2]] == ["Placed", "Held"]
    assert rows_of(address) == found


async def test_the_view_shows_what_json_in_postgresql_can_not_hold() -> None:
    address = new_address()
    log = PostgresLog(address)
    await log.open(APP)
    texts = ["a\0b", r"no \u0000 nul", "\\\0", "\0\0"]
    events = [{"type": "Done", "text": text} for text in texts]
    whole = seal(Head(), "2026-01-01T00:00:00.000000Z", msgspec.json.encode([{"type": "Do", "events": events}]))
    torn = seal(Head.after(whole, 4), "2026-01-01T00:00:01.000000Z", b'[{"type":"Do","events":[{"n":1e999999}]}]')
    await log.append(whole)
    await log.append(torn)
    await log.close()
    assert [row[-1]["text"] for row in rows_of(address)] == ["a\ufffdb", r"no \u0000 nul", "\\\ufffd", "\ufffd\ufffd"]


async def test_the_events_of_format_1_are_shown_beside_those_of_today() -> None:
    address = new_address()
    log = PostgresLog(address)
    await log.open("selling")
    old = [
        {
            "type": "Place",
            "key": "o0",
            "id": "zero",
            "events": [{"type": "Placed", "order": "o0", "show": "s", "count": 1}],
        }
    ]
    await log.append(seal(Head(), "2026-01-01T00:00:00.000000Z", msgspec.json.encode(old)))
    await log.close()
    async with Engine(selling, log=address) as engine:
        await engine.execute(Order("o1", "s", 3))
    found = await stored_rows(address)
    assert [row[4] for row in found] == ["o0", "o1", "s"]
    assert rows_of(address) == found


async def test_a_role_that_may_make_nothing_writes_a_log_that_an_administrator_has_made() -> None:
    address = new_address()
    settings = settings_of(address)
    role = f"app_{secrets.token_hex(4)}"
    own = address.replace("postgres@", f"{role}@")
    sql(address, f"CREATE ROLE {role} LOGIN")
    sql(address, "REVOKE CREATE ON DATABASE postgres FROM PUBLIC")
    with pytest.raises(LogRefused, match="the role may not do this: permission denied"):
        await PostgresLog(own).open("selling")
    script(address, PostgresLog(own).schema_sql())
    sql(address, f"GRANT USAGE ON SCHEMA {settings.place} TO {role}")
    sql(address, f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {settings.place} TO {role}")
    sql(address, f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA {settings.place} TO {role}")
    async with Engine(selling, log=own) as engine:
        await engine.execute(Order("o1", "s", 3))
    async with Engine(selling, log=own) as engine:
        assert engine.position == 2


async def test_a_schema_that_holds_something_else_is_refused_and_left_alone() -> None:
    address = new_address()
    place = settings_of(address).place
    sql(address, f"CREATE SCHEMA {place}")
    sql(address, f"CREATE TABLE {place}.theirs (a integer)")
    with pytest.raises(LogRefused, match=r"holds something else: 'theirs'; name another schema"):
        await PostgresLog(address).open(APP)
    assert sql(address, f"SELECT count(*) FROM {place}.theirs") == [(0,)]


async def test_a_log_of_a_newer_millstream_is_refused() -> None:
    address = new_address()
    place = settings_of(address).place
    log = PostgresLog(address)
    await log.open(APP)
    await log.close()
    sql(address, f"UPDATE {place}.meta SET value = '3' WHERE name = 'format'")
    for opening in (log.open(APP), log.attach()):
        with pytest.raises(LogRefused, match="it has format 3, this millstream reads up to 2; update millstream"):
            await opening


async def test_a_log_that_was_dropped_is_not_there_any_more() -> None:
    address = new_address()
    log, reader = PostgresLog(address), PostgresLog(address)
    await log.open(APP)
    await reader.attach()
    sql(address, f"DROP SCHEMA {settings_of(address).place} CASCADE")
    with pytest.raises(LogRefused, match="there is no log in this schema"):
        await reader.head()
    await log.close()
    await reader.close()

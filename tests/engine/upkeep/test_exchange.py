from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.engine import LogCorrupt, LogLocked, MemoryLog, SqliteLog
from millstream.engine.commits.commit import Commit, Head
from millstream.engine.commits.marks import EXPORT_MARK
from millstream.engine.upkeep import (
    ExportDamaged,
    ExportRefused,
    Verified,
    attached,
    exchange,
    export_log,
    import_log,
)
from tests.engine.upkeep.chains import APP, FIVE, commits_in, deposit, in_file, in_memory, sealed, with_commit
from tests.loops import one_loop
from tests.support import Row, sealed_rows

pytestmark = pytest.mark.anyio

HEADER = b'{"%s":"log","format":2,"application":"bank"}\n' % EXPORT_MARK.encode()


async def exported(commits: Sequence[Commit], application: str = APP) -> bytes:
    file = io.BytesIO()
    await export_log(in_memory(commits), application, file)
    return file.getvalue()


async def imported(text: bytes, log: MemoryLog | None = None) -> list[Commit]:
    log = log or MemoryLog()
    await import_log(io.BytesIO(text), log)
    return log.store.commits


# There and back.


async def test_an_export_is_a_header_and_a_line_for_each_commit() -> None:
    text = await exported(FIVE[:3])
    assert text == HEADER + b"".join(
        [
            b'{"number":1,"position":1,"recorded_at":"2026-01-01T00:00:00.000000Z","digest":"%s","body":['
            b'{"type":"Deposit","key":"ann","events":[{"type":"Deposited","account":"ann","amount":1}]},'
            b'{"type":"Deposit","key":"bob","offset":1,"events":[{"type":"Deposited","account":"bob","amount":2}]}]}\n'
            % FIVE[0].digest.hex().encode(),
            b'{"number":2,"position":3,"recorded_at":"2026-01-01T00:00:01.000000Z","digest":"%s","body":['
            b'{"type":"Deposit","key":"ann","events":[{"type":"Deposited","account":"ann","amount":3}]}]}\n'
            % FIVE[1].digest.hex().encode(),
            b'{"number":3,"position":4,"recorded_at":"2026-01-01T00:00:02.000000Z","digest":"%s","body":['
            b'{"type":"Deposit","key":"ann","events":[]}]}\n' % FIVE[2].digest.hex().encode(),
        ]
    )


async def test_each_line_is_json_that_any_program_reads() -> None:
    lines = [json.loads(line) for line in (await exported(FIVE)).splitlines()]
    assert [line["number"] for line in lines[1:]] == [1, 2, 3, 4, 5]
    assert lines[4]["body"][0]["events"][2] == {"type": "Deposited", "account": "Zoë", "amount": 6}


names = st.text(max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)
events = st.lists(
    st.dictionaries(names, values, max_size=4).map(lambda event: {"type": "Happened", **event}), max_size=4
)
records = st.builds(
    lambda tag, key, command_id, happened: Row(tag, key, command_id, events=msgspec.Raw(msgspec.json.encode(happened))),
    names,
    names | st.none(),
    names | st.none(),
    events,
)


@one_loop
@settings(max_examples=60)
@given(bodies=st.lists(st.lists(records, max_size=4), max_size=6), application=st.text(min_size=1, max_size=20))
async def test_what_is_exported_and_imported_is_the_same_log(bodies: list[list[Row]], application: str) -> None:
    commits = sealed(*bodies)
    log = MemoryLog()
    found = await import_log(io.BytesIO(await exported(commits, application)), log)
    assert (log.store.commits, log.store.application) == (commits, application)
    assert found.digest == (commits[-1].digest if commits else bytes(32))
    assert await exported(log.store.commits, application) == await exported(commits, application)


async def test_a_log_in_a_file_goes_to_another_file_with_the_same_digests(tmp_path: Path) -> None:
    path = await in_file(tmp_path / "log.db", FIVE)
    with (tmp_path / "log.jsonl").open("w+b") as file:
        async with attached(path) as (log, application):
            out = await export_log(log, application, file)
        file.seek(0)
        into = await import_log(file, tmp_path / "new.db")
    assert await commits_in(tmp_path / "new.db") == FIVE
    for found in (out, into):
        assert (found.commits, found.events, found.digest) == (5, 7, FIVE[-1].digest)


async def test_a_body_goes_over_to_the_byte_however_it_is_written() -> None:
    body: Any = msgspec.Raw(b'[ {"type" : "Deposit",\t"events":[{"type":"x","n":1.50e+3,"s":"\\u00e9\\/"}]} ]')
    commits = [sealed_rows(Head(), "2026-01-01T00:00:00.000000Z", body)]
    assert (await imported(await exported(commits)))[0].body == bytes(body)


# Going on.


async def test_an_import_that_was_interrupted_goes_on_where_it_was() -> None:
    text = await exported(FIVE)
    log = MemoryLog()
    await imported(b"".join(text.splitlines(keepends=True)[:3]), log)
    assert log.store.commits == FIVE[:2]
    assert await imported(text, log) == FIVE


async def test_an_import_that_was_done_already_changes_nothing() -> None:
    text, log = await exported(FIVE), in_memory(FIVE)
    found = await import_log(io.BytesIO(text), log)
    assert (found.commits, log.store.commits) == (5, FIVE)


async def test_a_line_without_its_end_is_taken_if_it_is_whole() -> None:
    assert await imported((await exported(FIVE)).rstrip(b"\n")) == FIVE


@pytest.mark.parametrize("cut", [1, 20, 150, 300])
async def test_an_export_that_was_cut_off_inside_a_line_is_damaged_and_the_commits_before_are_imported(
    cut: int,
) -> None:
    lines = (await exported(FIVE)).splitlines(keepends=True)
    log = MemoryLog()
    with pytest.raises(ExportDamaged, match=r"is damaged at line 5: it is not a commit"):
        await imported(b"".join(lines[:4]) + lines[4][:cut], log)
    assert log.store.commits == FIVE[:3]
    assert await imported(b"".join(lines), log) == FIVE


# What is refused.


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        (b"", "it is not an export of a millstream log"),
        (b"\n", "it is not an export of a millstream log"),
        (b"number,position\n", "it is not an export of a millstream log"),
        (b'{"number":1}\n', "it is not an export of a millstream log"),
        (HEADER.replace(b'"log"', b'"snapshot"'), "it is not an export of a millstream log"),
        (HEADER.replace(b'"bank"', b'""'), "it is not an export of a millstream log"),
        (HEADER.replace(b"2", b"3"), "it has format 3, this millstream reads up to 2"),
    ],
)
async def test_a_file_that_is_no_export_is_refused_at_its_first_line(header: bytes, problem: str) -> None:
    log = MemoryLog()
    with pytest.raises(ExportRefused) as raised:
        await imported(b"".join([header, *(await exported(FIVE)).splitlines(keepends=True)[1:]]), log)
    assert (raised.value.line, raised.value.problem) == (1, problem)
    assert (log.store.commits, log.store.application) == ([], None)


def with_line(lines: list[bytes], index: int, line: bytes) -> bytes:
    return b"".join([*lines[:index], line, *lines[index + 1 :]])


async def damage_of(text: bytes) -> tuple[int, int, str]:
    with pytest.raises(ExportDamaged) as raised:
        await imported(text)
    return raised.value.line, raised.value.commit, raised.value.problem


async def test_each_changed_byte_of_an_export_is_found_and_its_line_named() -> None:
    lines = (await exported(FIVE[:2])).splitlines(keepends=True)
    for index in (1, 2):
        for at in range(len(lines[index]) - 1):
            changed = lines[index][:at] + bytes([lines[index][at] ^ 1]) + lines[index][at + 1 :]
            line, commit, _ = await damage_of(with_line(lines, index, changed))
            assert (line, commit) == (index + 1, index)


async def test_lines_that_are_dropped_moved_or_added_are_found_and_named() -> None:
    header, *lines = (await exported(FIVE)).splitlines(keepends=True)
    assert await damage_of(b"".join([header, *lines[1:]])) == (2, 1, "commit 2 stands where 1 should")
    assert await damage_of(b"".join([header, *lines[:2], *lines[3:]])) == (4, 3, "commit 4 stands where 3 should")
    assert await damage_of(b"".join([header, *lines[:2], lines[1]])) == (4, 3, "commit 2 stands where 3 should")
    line, _, problem = await damage_of(b"".join([header, lines[0], b"\n", *lines[1:]]))
    assert (line, problem) == (3, "it is not a commit: Input data was truncated")


async def test_a_field_that_nobody_knows_is_no_commit() -> None:
    header, first, *_ = (await exported(FIVE)).splitlines(keepends=True)
    line, _, problem = await damage_of(header + first.replace(b'"number":1', b'"number":1,"note":"hello"'))
    assert (line, problem) == (2, "it is not a commit: Object contains unknown field `note`")


async def test_a_digest_that_is_no_hexadecimal_is_no_commit() -> None:
    header, first, *_ = (await exported(FIVE)).splitlines(keepends=True)
    line, _, problem = await damage_of(header + first.replace(FIVE[0].digest.hex().encode(), b"none"))
    assert (line, problem) == (2, "it is not a commit: non-hexadecimal number found in fromhex() arg at position 0")


async def test_a_line_that_is_too_long_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "LINE_BYTES_MAX", 1_000)
    lines = (await exported(FIVE)).splitlines(keepends=True)
    file = io.BytesIO(b"".join([*lines[:3], b"x" * 5_000, b"\n"]))
    log = MemoryLog()
    with pytest.raises(ExportDamaged, match=r"is damaged at line 4: it is longer than 1,000 bytes"):
        await import_log(file, log)
    assert file.tell() <= sum(map(len, lines[:3])) + 1_001


async def test_another_applications_log_is_refused_by_both_names() -> None:
    log = in_memory([], "shop")
    with pytest.raises(ExportRefused) as raised:
        await imported(await exported(FIVE), log)
    assert raised.value.line == 1
    assert raised.value.problem == (
        "log memory: does not take application 'bank': it belongs to application 'shop', not to 'bank'"
    )
    assert log.store.commits == []


async def test_a_log_with_another_beginning_is_refused_and_left_as_it_is() -> None:
    other = sealed([deposit("eve", 1)], [deposit("eve", 2)])
    log = in_memory(other)
    with pytest.raises(ExportRefused) as raised:
        await imported(await exported(FIVE), log)
    assert (raised.value.line, raised.value.problem) == (3, "its commit 2 is not that of log memory:")
    assert log.store.commits == other


async def test_a_log_that_is_further_than_the_export_is_refused() -> None:
    log = in_memory(FIVE)
    with pytest.raises(ExportRefused) as raised:
        await imported(await exported(FIVE[:3]), log)
    assert (raised.value.line, raised.value.problem) == (
        4,
        "it ends with commit 3, and log memory: has 5 already",
    )
    assert log.store.commits == FIVE


async def test_a_log_that_is_open_elsewhere_is_locked(tmp_path: Path) -> None:
    writer = SqliteLog(tmp_path / "log.db")
    await writer.open(APP)
    try:
        with pytest.raises(LogLocked):
            await import_log(io.BytesIO(await exported(FIVE)), tmp_path / "log.db")
    finally:
        await writer.close()


async def test_the_log_is_closed_whatever_happens() -> None:
    log = MemoryLog()
    with pytest.raises(ExportDamaged):
        await imported(HEADER + b"nonsense\n", log)
    await log.open(APP)
    await log.close()


async def test_errors_call_the_file_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"nonsense")
    with path.open("rb") as file, pytest.raises(ExportRefused, match=r"export .*log\.jsonl is refused at line 1"):
        await import_log(file, MemoryLog())
    with pytest.raises(ExportRefused, match=r"export \(unnamed\) is refused"):
        await import_log(io.BytesIO(), MemoryLog())
    with pytest.raises(ExportRefused, match=r"export standard input is refused"):
        await import_log(io.BytesIO(), MemoryLog(), source="standard input")


# Exporting what is damaged.


async def test_a_damaged_log_is_exported_up_to_the_damage_and_goes_on_where_its_backup_ended() -> None:
    file = io.BytesIO()
    with pytest.raises(LogCorrupt) as raised:
        await export_log(in_memory(with_commit(3, body=b"[]")), APP, file)
    assert raised.value.commit == 4
    assert file.getvalue() == await exported(FIVE[:3])
    backup = in_memory(FIVE[:2])
    assert await imported(file.getvalue(), backup) == FIVE[:3]


async def test_a_body_with_line_breaks_is_not_exported() -> None:
    body: Any = msgspec.Raw(b"[\n]")
    with pytest.raises(LogCorrupt, match="its body has line breaks, which millstream does not write"):
        await exported([sealed_rows(Head(), "2026-01-01T00:00:00.000000Z", body)])


# Manners.


class Counting(io.BytesIO):
    """A file that counts the lines that were read, and how far its reader was ahead of the log at the most."""

    log: MemoryLog
    lines = 0
    ahead = 0

    def readline(self, size: int | None = -1, /) -> bytes:
        self.lines += 1
        self.ahead = max(self.ahead, self.lines - 1 - len(self.log.store.commits))
        return super().readline(size)


async def test_an_import_reads_no_further_ahead_than_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    text = await exported(sealed(*([deposit("ann", number)] for number in range(59))))
    monkeypatch.setattr(exchange, "PAGE_BYTES", 1_000)
    file = Counting(text)
    file.log = MemoryLog()
    await import_log(file, file.log)
    assert len(file.log.store.commits) == 59
    assert 1 < file.ahead < 6  # lines of about 260 bytes


async def test_progress_is_told_after_each_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "PAGE_BYTES", 1)
    told: list[Verified] = []
    file = io.BytesIO()
    await export_log(in_memory(FIVE), APP, file, progress=told.append)
    assert [found.commits for found in told] == [1, 2, 3, 4, 5]
    told.clear()
    await import_log(io.BytesIO(file.getvalue()), MemoryLog(), progress=told.append)
    assert [(found.commits, found.events) for found in told] == [(1, 2), (2, 3), (3, 3), (4, 6), (5, 7)]

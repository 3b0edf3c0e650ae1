"""A log as JSON lines, and back: for another machine, another store, another program.

    {…,"format":2,"application":"bank"}
    {"number":1,"position":1,"recorded_at":"…","digest":"…","body":{"events":[…],"commands":1,"type":"Open",…}}

The first line is the header, which `marks.EXPORT_MARK` begins; each other one is a commit, in order. ``body`` is the
commit's JSON to the byte, ``digest`` is in hexadecimal. So an export can be verified by itself, and the log that it is
imported into has the same digests.

Invariants: at most one page of the log, or `LINE_BYTES_MAX`, is in memory; files are read and written in threads.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from millstream.engine.application.validation import encode
from millstream.engine.commits.commit import FORMAT, Commit
from millstream.engine.commits.marks import EXPORT, EXPORT_MARK
from millstream.engine.errors import LogCorrupt, LogRefused
from millstream.engine.loop.slices import Slicer
from millstream.engine.loop.threads import in_thread
from millstream.engine.loop.uncancelled import to_the_end
from millstream.engine.stores.address import log_at
from millstream.engine.stores.port import Log
from millstream.engine.stores.reader import PAGE_BYTES, SLICE_MS
from millstream.engine.upkeep.downgrade import Downgrade
from millstream.engine.upkeep.errors import ExportDamaged, ExportRefused
from millstream.engine.upkeep.verified import Verification, Verified

__all__ = ["LINE_BYTES_MAX", "export_log", "import_log"]

#: How long a line of an export may be.
LINE_BYTES_MAX = 256 * 1024 * 1024


class _Header(msgspec.Struct):
    kind: str = msgspec.field(name=EXPORT_MARK)
    format: int
    application: str


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    number: int
    position: int
    recorded_at: str
    digest: str
    body: msgspec.Raw


# Out.


async def export_log(
    log: Log,
    application: str,
    file: BinaryIO,
    *,
    downgrade: Downgrade | None = None,
    progress: Callable[[Verified], None] | None = None,
) -> Verified:
    """Write a log as JSON lines. Every commit is verified before it is written.

    Args:
        log: open, or attached; commits that are appended meanwhile are exported, too.
        application: whose log it is, as `Log.attach` returned it.
        file: a buffered binary file; it is flushed after each page, and stays open.
        downgrade: a new one, to write what a millstream of 0.1 can import: format 1, with a chain of its own, whose
            head is ``downgrade.head`` then. ``downgrade.dropped`` says what that format has no place for.
        progress: called after each page with what was written until then.

    Raises:
        LogCorrupt: a commit is not what was written; names it. ``file`` has those before it.
        LogRefused: a commit needs what format 1 does not have; names it. ``file`` has those before it.
        OSError: the file can't be written.
    """
    version = FORMAT if downgrade is None else 1
    await in_thread(_write, file, [encode(_Header(EXPORT, version, application)), b"\n"])
    verification, slicer = Verification(log.name), Slicer(SLICE_MS)
    while page := await log.read(verification.head.number, PAGE_BYTES):
        lines: list[bytes] = []
        try:
            for commit in page:
                verification.follow(commit)
                lines.append(_line_of(log.name, commit if downgrade is None else downgrade.take(commit)))
                if slicer.is_over:
                    await slicer.rest()
        except (LogCorrupt, LogRefused):  # what comes before it is worth having
            await in_thread(_write, file, lines)
            raise
        await in_thread(_write, file, lines)
        if progress is not None:
            progress(verification.so_far())
    return verification.so_far()


def _write(file: BinaryIO, lines: list[bytes]) -> None:
    file.write(b"".join(lines))
    file.flush()


def _line_of(log: str, commit: Commit) -> bytes:
    if b"\n" in commit.body:
        raise LogCorrupt(log, commit.number, "its body has line breaks, which millstream does not write")
    line = _Line(commit.number, commit.position, commit.recorded_at, commit.digest.hex(), msgspec.Raw(commit.body))
    return encode(line) + b"\n"


# In.


async def import_log(
    file: BinaryIO,
    log: str | Path | Log,
    *,
    source: str | None = None,
    progress: Callable[[Verified], None] | None = None,
) -> Verified:
    """Append what `export_log` wrote to a log, which has the same commits and digests then.

    Each commit is verified before it is appended, and durable before the next one. The log may be new, or hold a
    beginning of the export: then the import goes on from there, so one that was interrupted is simply started again.

    Args:
        file: a binary file, read from where it stands to its end.
        log: an address, or a log that is not open. It is opened for writing, and closed.
        source: what errors call the file; default: the file's own name.
        progress: called every now and then with what was imported until then.

    Returns:
        What the export and the log both hold.

    Raises:
        ExportRefused: ``file`` is no export, is of a newer format or of another application than the log, or the log
            is not a beginning of it; names the line. A `LogRefused`.
        ExportDamaged: a line is not what was exported; names it. The commits before it are in the log. A `LogCorrupt`.
        LogLocked, LogCorrupt, Fenced, CommitFailed: from the log.
    """
    lines = _Lines(file, source or str(getattr(file, "name", "")) or "(unnamed)")
    header = await lines.header()
    into = log_at(log)
    try:
        await into.open(header.application)
    except LogRefused as error:
        problem = f"log {into.name} does not take application {header.application!r}: {error.problem}"
        raise ExportRefused(lines.source, 1, problem, error.next_step) from error
    try:
        return await _import_commits(lines, into, progress)
    finally:
        await to_the_end(into.close())


async def _import_commits(lines: _Lines, log: Log, progress: Callable[[Verified], None] | None) -> Verified:
    there = await log.head()
    verification, slicer = Verification(lines.source), Slicer(SLICE_MS)
    async for page in lines.pages():
        for commit in lines.commits(page, verification):
            if commit.number > there.number:
                await log.append(commit)
            elif commit.number == there.number and commit.digest != there.digest:
                raise _refuse_other(lines, f"its commit {commit.number:,} is not that of log {log.name}")
            if slicer.is_over:
                await slicer.rest()
        if progress is not None:
            progress(verification.so_far())
    if verification.head.number < there.number:
        problem = f"it ends with commit {verification.head.number:,}, and log {log.name} has {there.number:,} already"
        raise _refuse_other(lines, problem)
    return verification.so_far()


def _refuse_other(lines: _Lines, problem: str) -> ExportRefused:
    return ExportRefused(
        lines.source, lines.number, problem, "import it into a new log, or one that is a beginning of it"
    )


class _Lines:
    """An export's lines, numbered from 1, with errors that name them."""

    def __init__(self, file: BinaryIO, source: str) -> None:
        self._file = file
        self.source = source
        #: The line that was taken last.
        self.number = 0

    async def header(self) -> _Header:
        """The first line."""
        page = await self._read(0)
        self.number = 1
        try:
            header = msgspec.json.decode(page[0] if page else b"", type=_Header)
        except msgspec.DecodeError as error:
            raise self._no_export() from error
        if header.kind != EXPORT or not header.application:
            raise self._no_export()
        if header.format > FORMAT:
            problem = f"it has format {header.format}, this millstream reads up to {FORMAT}"
            raise ExportRefused(self.source, 1, problem, "update millstream to import it")
        return header

    def _no_export(self) -> ExportRefused:
        return ExportRefused(self.source, 1, "it is not an export of a millstream log", "name another file")

    async def pages(self) -> AsyncIterator[list[bytes]]:
        """The other lines, some at a time."""
        while page := await self._read(PAGE_BYTES):
            yield page

    def commits(self, page: list[bytes], verification: Verification) -> Iterator[Commit]:
        """The commits in lines, each verified before it is given."""
        for text in page:
            self.number += 1
            try:
                line = msgspec.json.decode(text, type=_Line)
                digest = bytes.fromhex(line.digest)
                commit = Commit(line.number, line.position, line.recorded_at, bytes(line.body), digest)
                verification.follow(commit)
            except (msgspec.DecodeError, ValueError) as error:
                raise ExportDamaged(self.source, self.number, f"it is not a commit: {error}") from error
            except LogCorrupt as error:
                raise ExportDamaged(self.source, self.number, error.problem) from error
            except RecursionError as error:
                problem = "it is nested deeper than this program can read"
                raise ExportRefused(self.source, self.number, problem, "raise sys.setrecursionlimit first") from error
            yield commit

    async def _read(self, bytes_max: int) -> list[bytes]:
        lines = await in_thread(_read_lines, self._file, bytes_max)
        if lines and len(lines[-1]) > LINE_BYTES_MAX:
            number = self.number + len(lines)
            raise ExportDamaged(self.source, number, f"it is longer than {LINE_BYTES_MAX:,} bytes")
        return lines


def _read_lines(file: BinaryIO, bytes_max: int) -> list[bytes]:
    """At least one line, if there is one, and further ones until there are so many bytes."""
    lines: list[bytes] = []
    size = 0
    while line := file.readline(LINE_BYTES_MAX + 1):
        lines.append(line)
        size += len(line)
        if size >= bytes_max or len(line) > LINE_BYTES_MAX:
            break
    return lines

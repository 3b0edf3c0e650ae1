"""A disk that is full under a log in PostgreSQL: commits are refused, none is lost, and it goes on when there is room.

The tables are on a small file system in memory, which only root can make; the server's own files are not.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from millstream.engine import CommitFailed, Engine
from millstream.engine.upkeep import attached, verify_log
from tests.postgres import Server, new_server, script
from tests.shop import Note, Notes, shop

pytestmark = pytest.mark.anyio

SIZE_MB = 24
#: No compression makes it much smaller.
TEXT = secrets.token_hex(30_000)


@pytest.fixture(params=["asyncio"])
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": False}


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A folder on a file system that is soon full."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    with tempfile.TemporaryDirectory(prefix="small-", dir="/tmp") as folder:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m,mode=755", "tmpfs", folder],
            check=False,
            capture_output=True,
        )
        if mounted.returncode:
            pytest.skip(f"no small file system can be mounted here: {mounted.stderr.decode()}")
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture
def small_server(small_disk: Path) -> Iterator[Server]:
    """A server with a database whose tables are there."""
    place = small_disk / "tables"
    place.mkdir(mode=0o700)
    subprocess.run(["chown", "nobody:nogroup", str(place)], check=True)
    made = new_server("small")
    made.start()
    script(made.address("x"), f"CREATE TABLESPACE small LOCATION '{place}'")
    script(made.address("x"), "CREATE DATABASE small TABLESPACE small")
    yield made
    made.stop("immediate")


async def test_a_full_disk_refuses_commits_and_loses_none(small_disk: Path, small_server: Server) -> None:
    address = small_server.address("log").replace("/postgres?", "/small?")
    filler, written, refused, said = small_disk / "filler", 0, 0, ""
    async with Engine(shop, log=address, snapshots=False) as engine:
        await engine.execute(Note(f"0 {TEXT}"), command_id="0")
        filler.write_bytes(bytes(_free(small_disk) - 1_000_000))
        for number in range(1, 100):
            try:
                await engine.execute(Note(f"{number} {TEXT}"), command_id=str(number))
                written = number
            except CommitFailed as error:
                said, refused = str(error), number
                break
        assert 0 < written < refused
        assert "No space left on device" in said
        with pytest.raises(CommitFailed):
            await engine.execute(Note(f"{refused} {TEXT}"), command_id=str(refused))
        assert len(await engine.ask(Notes())) == written + 1
        filler.unlink()
        receipt = await engine.execute(Note(f"{refused} {TEXT}"), command_id=str(refused))
        assert (receipt.position, receipt.repeated) == (refused + 1, False)
        notes = await engine.ask(Notes(), after=receipt)
        assert [note.split()[0] for note in notes] == [str(number) for number in range(refused + 1)]
    async with attached(address) as (log, _):
        assert (await verify_log(log)).events == refused + 1


def _free(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize

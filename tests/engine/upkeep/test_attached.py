from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from millstream.engine import Log, LogRefused, SqliteLog
from millstream.engine.upkeep import attached
from tests.engine.upkeep.chains import FIVE, in_file

pytestmark = pytest.mark.anyio


async def fail_while_attached(address: str | Path | Log) -> Log:
    """The log, after a block that read it and then raised."""
    used: list[Log] = []
    try:
        async with attached(address) as (log, application):
            used.append(log)
            assert (application, (await log.head()).number) == ("bank", 5)
            raise ZeroDivisionError
    except ZeroDivisionError:
        return used[0]


@pytest.mark.parametrize("address", [str, Path, lambda path: f"sqlite:{path}", SqliteLog])
async def test_a_log_is_closed_when_the_block_ends_however_it_ends(
    tmp_path: Path, address: Callable[[Path], str | Path | Log]
) -> None:
    log = await fail_while_attached(address(await in_file(tmp_path / "log.db", FIVE)))
    with pytest.raises(RuntimeError, match="not open"):
        await log.head()


async def test_a_log_that_is_not_there_is_refused_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(LogRefused, match="it is not there"):
        await fail_while_attached(tmp_path / "log.db")
    assert list(tmp_path.iterdir()) == []

"""An engine with a view in SQL, in a process that is killed: it writes as fast as it can, and says what it has done."""

from __future__ import annotations

import sys
from functools import partial

import anyio
import structlog

from millstream.engine import Engine, Limits
from tests.views.sql.ledger import Move, Sums, app_of, made


async def main(log: str, database: str | None = None, *, rebuilds: bool = False) -> None:
    async with Engine(app_of(made(database=database)), log=log, limits=Limits(batch_commands_max=20)) as engine:
        while True:
            await engine.execute_many([Move(account, 1) for account in "abcde" * 20])
            sys.stdout.write(f"{engine.position}\n")
            sys.stdout.flush()
            if rebuilds:
                await engine.ask(Sums(), after=engine.position)
                await engine.rebuild("Ledger")


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    rebuilds, given = "rebuilds" in sys.argv, [each for each in sys.argv[1:] if each != "rebuilds"]
    anyio.run(partial(main, rebuilds=rebuilds), given[0], given[1] if given[1:] else None)

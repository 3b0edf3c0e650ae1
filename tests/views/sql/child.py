"""An engine with a view in SQL, in a process that is killed: it writes as fast as it can, and says what it has done."""

from __future__ import annotations

import sys

import anyio
import structlog

from millstream.engine import Engine, Limits
from tests.views.sql.ledger import Move, app_of, made


async def main(log: str, database: str | None = None) -> None:
    async with Engine(app_of(made(database=database)), log=log, limits=Limits(batch_commands_max=20)) as engine:
        while True:
            await engine.execute_many([Move(account, 1) for account in "abcde" * 20])
            sys.stdout.write(f"{engine.position}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    anyio.run(main, sys.argv[1], sys.argv[2] if sys.argv[2:] else None)

"""A replica that is asked in its own process: ``python -m millstream.bench.socket.asking LOG LOOP WORKLOAD``.

It says ``ready``, waits for a line on standard input, puts the workload's questions to itself, one after another, and
says what came of it, as JSON.
"""

from __future__ import annotations

import gc
import logging
import sys
from functools import partial

import anyio.to_thread
import msgspec
import structlog

from millstream.bench import loops
from millstream.bench.bank import AllBalances, bank, fingerprint, queries
from millstream.bench.workload import Workload
from millstream.engine import Replica
from millstream.engine.loop.clock import elapsed

__all__ = ["Asked", "main"]


class Asked(msgspec.Struct, frozen=True):
    """How long it took, and the fingerprint of the balances."""

    seconds: float
    state: str


async def _ask(log: str, workload: Workload) -> None:
    questions = queries(workload)
    async with Replica(bank, log=log) as replica:
        ask = replica.ask
        balances = await ask(AllBalances(), after=workload.accounts + workload.warmup)
        for question in questions[: len(questions) // 10]:
            await ask(question)
        gc.collect()
        _say("ready")
        await anyio.to_thread.run_sync(sys.stdin.readline)
        started = elapsed()
        for question in questions:
            await ask(question)
        asked = Asked(elapsed() - started, fingerprint(balances))
    _say(msgspec.json.encode(asked).decode())


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> None:
    """Follow the log that the first argument names, on the loop of the second, and ask as the third says."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    log, loop, workload = arguments
    loops.run(partial(_ask, log, msgspec.json.decode(workload, type=Workload)), loop)


if __name__ == "__main__":
    main(sys.argv[1:])

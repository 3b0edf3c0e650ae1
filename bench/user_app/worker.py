"""One run's process: ``python -m millstream.bench.user_app.worker JOB``, the job and what it prints being JSON."""

from __future__ import annotations

import logging
import sys
from functools import partial

import msgspec
import structlog

from millstream.bench import loops
from millstream.bench.job import BenchError
from millstream.bench.user_app.run import run
from millstream.bench.user_app.work import OwnJob
from millstream.engine import MillstreamError

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Run the job that the first argument describes, write its result, and return the exit code."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    job = msgspec.json.decode(arguments[0], type=OwnJob)
    try:
        result = loops.run(partial(run, job), job.loop)
    except (BenchError, MillstreamError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(msgspec.json.encode(result).decode() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

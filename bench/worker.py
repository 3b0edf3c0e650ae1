"""One contender's process: ``python -m millstream.bench.worker JOB``, the job and what it prints being JSON.

Standard output holds the result and nothing else; what the engine logs goes to standard error, from warnings on.
"""

from __future__ import annotations

import logging
import sys

import msgspec
import structlog

from millstream.bench.job import Job, Result
from millstream.bench.programs import PROGRAMS

__all__ = ["main", "run_here"]


def run_here(job: Job) -> Result:
    """Run a job in this process."""
    return PROGRAMS[job.program].run(job)


def main(arguments: list[str]) -> None:
    """Run the job that the first argument describes, and write its result."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    result = run_here(msgspec.json.decode(arguments[0], type=Job))
    sys.stdout.write(msgspec.json.encode(result).decode() + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])

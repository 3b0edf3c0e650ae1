"""How long callers wait: a middleware that measures each command and each question.

Here: only that. Not here: what the engine counts of itself (`metrics`).
"""

from __future__ import annotations

from typing import Any

from millstream.engine.application.messages import Answered, Receipt
from millstream.engine.edge import Ask, Asking, Execute, Executing, Middleware
from millstream.engine.loop.clock import elapsed
from millstream.engine.telemetry.metrics import Metrics

__all__ = ["Measured"]


class Measured(Middleware):
    """Measures how long callers wait, by type of message and by what came of it: ``Edge(engine, [Measured(metrics)])``.

    The outcome is ``done``, or the name of the error's class.

    Args:
        metrics: where it is counted.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    async def execute(self, asked: Executing, proceed: Execute) -> Receipt[Any]:
        """Around a command."""
        began, outcome = elapsed(), "done"
        try:
            return await proceed(asked)
        except BaseException as error:
            outcome = type(error).__name__
            raise
        finally:
            self._metrics.command_seconds.labels(type(asked.command).__name__, outcome).observe(elapsed() - began)

    async def ask(self, asked: Asking, proceed: Ask) -> Answered[Any]:
        """Around a question; of a watch around its beginning."""
        began, outcome = elapsed(), "done"
        try:
            return await proceed(asked)
        except BaseException as error:
            outcome = type(error).__name__
            raise
        finally:
            self._metrics.query_seconds.labels(type(asked.query).__name__, outcome).observe(elapsed() - began)

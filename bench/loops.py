"""The event loops that a contender can run on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from importlib import import_module
from importlib.util import find_spec
from typing import Any, TypeVar

__all__ = ["available", "run"]

T = TypeVar("T")


def available() -> list[str]:
    """The loops that this Python has."""
    return ["asyncio", "uvloop"] if find_spec("uvloop") else ["asyncio"]


def run(main: Callable[[], Coroutine[Any, Any, T]], loop: str) -> T:
    """Run a coroutine function on a new loop of that name, to its end."""
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    if loop == "uvloop":
        factory = import_module("uvloop").new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main())

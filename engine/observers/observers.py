"""Tells several observers at once.

Here: who is called, and what is done with an observer that fails. Invariant: whatever an observer raises, its caller
goes on as if it had not.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from typing import Any, TypeAlias

from millstream.engine.errors import DefinitionError
from millstream.engine.observers.log_lines import LogLines, log_observer_failure
from millstream.engine.observers.observer import Observer, has_hook

__all__ = ["Observers"]

_Hook: TypeAlias = Callable[..., None]
_HOOKS = tuple(name for name in vars(Observer) if not name.startswith("_"))


class Observers(Observer):
    """The observers of one engine, replica, server or client, as one of them: the log lines, then those given.

    Args:
        observers: called in this order.

    Raises:
        DefinitionError: one of them is a class, or has a hook whose body would never run: it is async, or it yields.
    """

    def __init__(self, observers: Iterable[Observer] = ()) -> None:
        lines, given = LogLines(), tuple(observers)
        for each in given:
            if isinstance(each, type):
                raise DefinitionError("an observer is an object, not its class", f"{each.__name__}()")
        for name in _HOOKS:
            told: list[tuple[Observer, _Hook]] = []
            if has_hook(lines, name):
                told.append((lines, getattr(lines, name)))  # ours: not checked at each opening
            told += [(each, _checked(each, name)) for each in given if has_hook(each, name)]
            if told:
                setattr(self, name, _telling(name, told))


def _checked(observer: Observer, name: str) -> _Hook:
    """The hook, which runs when it is called."""
    hook: _Hook = getattr(observer, name)
    for function in (hook, type(hook).__call__):
        if iscoroutinefunction(function) or isasyncgenfunction(function):
            problem = "a hook is called and not awaited, so what is async in it would never run: start a task in it"
        elif isgeneratorfunction(function):
            problem = "a hook is called and not iterated, so what yields would never run"
        else:
            continue
        raise DefinitionError(problem, f"{type(observer).__name__}.{name}")
    return hook


def _telling(name: str, hooks: list[tuple[Observer, _Hook]]) -> _Hook:
    def tell(**facts: Any) -> None:
        for observer, hook in hooks:
            try:
                hook(**facts)
            except Exception as error:  # noqa: BLE001 - logged; what it is called with has happened, and nothing may come of this
                _failed(observer, name, error)

    return tell


def _failed(observer: Observer, hook: str, error: Exception) -> None:
    try:
        log_observer_failure(type(observer).__name__, hook, error)
    except Exception:  # noqa: BLE001 - log lines can't be written: the standard error is what is left
        with suppress(Exception):
            traceback.print_exception(error, file=sys.stderr)

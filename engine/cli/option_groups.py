"""Options that several commands have in common, as one parameter of each."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from inspect import Parameter
from typing import Any, get_type_hints

__all__ = ["grouped"]


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """The command as typer wants it: with the options themselves where it takes a NamedTuple whose fields they are."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: hints[name] for name in hints if hasattr(hints[name], "_field_defaults")}
    parameters: list[Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        if group := groups.get(name):
            parameters += _options(group)
        else:
            parameters.append(parameter.replace(annotation=hints[name]))

    @wraps(command)
    def called(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(*(given.pop(field) for field in group._fields))
        command(**given)

    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {each.name: each.annotation for each in parameters}
    return called


def _options(group: Any) -> list[Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        Parameter(
            name,
            Parameter.KEYWORD_ONLY,
            default=group._field_defaults.get(name, Parameter.empty),
            annotation=hints[name],
        )
        for name in group._fields
    ]

"""An application by the names of its classes, so that another process can import it.

Here: from an `App` to names, and back. An `App` is nothing but its classes, so that it needs no name of its own: it may
be bound to any variable, or be made by a function.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from functools import reduce
from importlib import import_module
from typing import Any

import msgspec

from millstream.engine.application.app import App
from millstream.engine.application.methods import place_of
from millstream.engine.errors import DefinitionError

__all__ = ["NamedApp", "program_of", "search_path"]

#: Where an application does without another process.
_SNAPSHOTS = 'take snapshots in this process: Engine(…, snapshots="loop")'


class NamedApp(msgspec.Struct, frozen=True, kw_only=True):
    """What an `App` is made of, each class as ``module:qualified name``."""

    models: tuple[str, ...]
    views: tuple[str, ...]
    retired: tuple[str, ...]
    name: str
    version: str | None
    effects: tuple[str, ...] = ()
    renamed: dict[str, str] = {}

    @classmethod
    def of(cls, app: App, instead: str = _SNAPSHOTS) -> NamedApp:
        """The names of an application's classes.

        Args:
            app: the application.
            instead: what else can be done, for the error.

        Raises:
            DefinitionError: one is not found by its name in a fresh process; says which, and why.
        """
        return cls(
            models=_names(app.models, instead),
            views=_names(app.views, instead),
            retired=tuple(sorted(_names(app.retired | app.retired_commands, instead))),
            name=app.name,
            version=app.version,
            effects=_names(app.effect_classes, instead),
            renamed=dict(app.renamed),
        )

    def load(self) -> App:
        """Import the classes, and make the application of them.

        Raises:
            Exception: whatever importing a module raises.
        """
        models, views, retired = (list(map(_named, names)) for names in (self.models, self.views, self.retired))
        return App(
            models=models,
            views=views,
            retired=retired,
            name=self.name,
            version=self.version,
            effects=list(map(_named, self.effects)),
            renamed=self.renamed,
        )


def search_path() -> tuple[str, ...]:
    """Where this process looks for modules, for another one to look there, too: also those of millstream itself."""
    return tuple(map(_wherever, map(os.fspath, sys.path)))


def _wherever(place: str) -> str:
    """Where modules are looked for, wherever this process goes: a folder may be named as seen from the working one.

    What is neither file nor folder is left alone: it may be for a hook of an installed package.
    """
    return os.path.abspath(place) if not place or os.path.exists(place) else place


def _names(classes: Iterable[type[Any]], instead: str) -> tuple[str, ...]:
    return tuple(_name_of(each, instead) for each in classes)


def _name_of(cls: type[Any], instead: str) -> str:
    name = f"{cls.__module__}:{cls.__qualname__}"
    if cls.__module__ == "__main__":
        problem = "it is in the program's main module, which another process does not import"
    elif "<" in cls.__qualname__:
        problem = "it is made within a function"
    elif not _is_importable(cls.__module__):
        problem = "there is no such module where this process looks for modules"
    elif _found(name) is not cls:
        problem = "its module has something else under that name"
    else:
        return name
    raise DefinitionError(
        f"another process can't import {name}: {problem}; move it to the top of a module of its own, or {instead}",
        place_of(cls),
    )


def _is_importable(module: str) -> bool:
    """Whether a fresh process would find a module's outermost package: this one may have loaded it in another way."""
    outermost = module.partition(".")[0]
    return any(finder.find_spec(outermost, None) is not None for finder in sys.meta_path)


def _found(name: str) -> Any:
    module, _, path = name.partition(":")
    return reduce(lambda found, each: getattr(found, each, None), path.split("."), sys.modules.get(module))


def _named(name: str) -> Any:
    module, _, path = name.partition(":")
    return reduce(getattr, path.split("."), import_module(module))


def program_of(module: str) -> str:
    """What a fresh interpreter runs with ``-c``: it reads its order, a line of JSON, for the ``main`` of a module.

    Modules are looked for where the process that sends the order looks for them, also those of millstream itself.

    Args:
        module: its full name.
    """
    return f"""
import json, sys
order = sys.stdin.buffer.readline()
sys.path[:] = json.loads(order)["path"]
from {module} import main
main(order)
"""

"""From what a user writes for APP, ``module:attribute``, to the application."""

from __future__ import annotations

import sys
import traceback
from importlib import import_module
from pathlib import Path

from millstream.engine.application.app import App
from millstream.engine.application.shards import Shard
from millstream.engine.errors import DefinitionError, MillstreamError

__all__ = ["load_app"]

_IMPORTERS = {__file__, import_module.__code__.co_filename}


def load_app(name: str, folder: Path | None = None) -> App:
    """Import an application.

    Args:
        name: ``module:attribute``, as in ``examples.bank:app``; the attribute may have dots, too. With ``#2/4`` behind
            it, it is the application for the second of four logs.
        folder: where modules are looked for first; default: the current one.

    Raises:
        DefinitionError: the name is no such name, the module can't be imported, or what it names is no `App`.
    """
    whole, sharp, place = name.partition("#")
    if sharp:
        shard = Shard.read(place)
        return load_app(whole, folder).sharded(shard.place, shard.of)
    module_name, colon, attributes = name.partition(":")
    if not (module_name and colon and attributes):
        raise DefinitionError(f"{name!r} names no application: write module:attribute, as in shop.main:app")
    found = _import(module_name, folder or Path.cwd())
    for attribute in attributes.split("."):
        if not hasattr(found, attribute):
            raise DefinitionError(f"{name!r} names no application: {_describe(found)} has no {attribute!r}")
        found = getattr(found, attribute)
    if not isinstance(found, App):
        hint = "; give the App itself, not what makes it" if callable(found) else ""
        raise DefinitionError(f"{name!r} is no App, but of type {type(found).__name__}{hint}")
    return found


def _import(name: str, folder: Path) -> object:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    try:
        return import_module(name)
    except MillstreamError:
        raise
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise DefinitionError(
                f"there is no module {error.name!r}: run millstream in the folder that holds it, or install it"
            ) from error
        raise DefinitionError(f"module {name!r} can't be imported: {error}", *_place(error)) from error
    except Exception as error:
        problem = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise DefinitionError(f"module {name!r} can't be imported: {problem}", *_place(error)) from error


def _place(error: Exception) -> list[str]:
    """Where in the user's code it was raised: the innermost frame that is neither ours nor of Python's import."""
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{frame.filename}:{frame.lineno}" for frame in frames if frame.filename not in _IMPORTERS]
    return [place for place in places if not place.startswith("<frozen importlib")][-1:]


def _describe(found: object) -> str:
    name = getattr(found, "__name__", None)
    return f"{type(found).__name__} {name!r}" if name else f"an object of type {type(found).__name__}"

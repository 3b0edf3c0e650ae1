"""What the class of a table is, beside its indexes: which rows it has, and that it has nothing else.

Here: looks at a class when it is made, in memory and in SQL alike. Not here: fields and indexes (`plan`).
"""

from __future__ import annotations

from typing import Any, TypeVar, get_args, get_origin

from millstream.engine.application.methods import place_of
from millstream.engine.errors import DefinitionError

__all__ = ["names_of", "require_only_rows", "row_of"]

_MAY_OVERRIDE = frozenset(("snapshot", "restore"))


def names_of(base: type) -> frozenset[str]:
    """What a table has itself, so that no application's method may be called like it."""
    own = {name for name in vars(base) if not name.startswith("__") and callable(getattr(base, name))}
    return frozenset(own - _MAY_OVERRIDE)


def row_of(cls: type, base: type) -> Any:
    """What stands in the brackets of ``TableView[…]``; None if that is a type variable.

    Raises:
        DefinitionError: there are no brackets.
    """
    for each in cls.__mro__:
        for generic in each.__dict__.get("__orig_bases__", ()):
            origin = get_origin(generic)
            if isinstance(origin, type) and issubclass(origin, base):
                (row,) = get_args(generic)
                return None if isinstance(row, TypeVar) else row
    name = base.__name__
    raise DefinitionError(f"a {name} says what its rows are: class {cls.__name__}({name}[…])", place_of(cls))


def require_only_rows(cls: type, base: type, taken: frozenset[str]) -> None:
    """See that a class has no state beside its rows, and no method in place of a table's own.

    Raises:
        DefinitionError: it has.
    """
    name_of_base = base.__name__
    for each in cls.__mro__[: cls.__mro__.index(base)]:
        for name, annotation in vars(each).get("__annotations__", {}).items():
            if "ClassVar" not in str(annotation):
                raise DefinitionError(
                    f"the state of a {name_of_base} is its rows, which are undone together, and {name!r} would be "
                    f"beside them: put it into a row or into another view; or write {name}: ClassVar if it never "
                    "changes",
                    place_of(each),
                )
        if used := sorted(taken.intersection(vars(each))):
            raise DefinitionError(f"{used[0]!r} is what a {name_of_base} has itself: take another name", place_of(each))

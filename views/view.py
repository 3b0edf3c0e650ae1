"""Views: a state that answers, kept by one actor that applies every event in order.

A view may lag behind the writer, never ahead of it and never half way through a commit. It can always be thrown away:
the log makes it again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar, cast

import msgspec

from penstock.engine.declare import Method, answer_type, declared, mark, place_of
from penstock.engine.errors import DefinitionError
from penstock.engine.messages import Event, Query

__all__ = ["View", "answers"]

Answers = TypeVar("Answers", bound=Callable[[Any, Any], Any])


def answers(method: Answers) -> Answers:
    """Mark a method as the one that answers one type of query.

    ``def balance(self, query: BalanceOf) -> int | None``, with what ``Query[…]`` was given as its return type. It
    must not change the state. What it returns may be shared: return values that nobody changes, or copies.
    """
    return cast(Answers, mark(method, "answers"))


class View(msgspec.Struct):
    """The base of views: a msgspec Struct in which every field has a default.

    Raises (when the class is made):
        DefinitionError: a decorated method has no usable annotation, two are for the same message, or the return
            type is not the query's answer.
    """

    __appliers__: ClassVar[Mapping[type[Any], Method]] = {}
    __answerers__: ClassVar[Mapping[type[Any], Method]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.__appliers__ = declared(cls, "applies", Event)
        cls.__answerers__ = declared(cls, "answers", Query)
        for query, method in cls.__answerers__.items():
            promised = answer_type(query)
            if method.returns != promised:
                raise DefinitionError(
                    f"the method returns {method.returns!r}, but {query.__name__} promises {promised!r}",
                    method.place,
                    place_of(query),
                )

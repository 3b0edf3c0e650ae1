"""Views: a state that answers, kept by one actor that applies every event in order.

A view may lag behind the writer, never ahead of it and never half way through a commit. It can always be thrown away:
the log makes it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, TypeVar, cast

import msgspec

from millstream.engine.application.answers import answering
from millstream.engine.application.known_state import require_known_state
from millstream.engine.application.messages import Event, Query
from millstream.engine.application.methods import Method, answer_type, declared, mark, place_of
from millstream.engine.application.sides import Poison
from millstream.engine.errors import DefinitionError
from millstream.engine.snapshots.exact import require_storable
from millstream.engine.snapshots.pieces import add_piece, pieces_of

__all__ = ["View", "answers"]

Answers = TypeVar("Answers", bound=Callable[[Any, Any], Any] | Callable[[Any, Any, Any], Any])


def answers(method: Answers) -> Answers:
    """Mark a method as the one that answers one type of query.

    ``def balance(self, query: BalanceOf) -> int | None``, with what ``Query[…]`` was given as its return type. It
    must not change the state. A NaN or an infinity, where the type has room for None, and what is nested too deeply are
    refused: over a socket and in a watch they would arrive as something else. What it
    returns may be the state's own: who asks in process gets a copy of what can change, others get it as JSON.
    """
    return cast(Answers, mark(method, "answers"))


class View(msgspec.Struct):
    """The base of views: a msgspec Struct in which every field has a default.

    Raises (when the class is made):
        DefinitionError: a decorated method has no usable annotation, two are for the same message, the return type is
            not the query's answer, or the class has a state beside its fields: an annotated attribute of a mixin that
            is no Struct, a dict or the like without an annotation, or ``dict=True``.
    """

    __appliers__: ClassVar[Mapping[type[Any], Method]] = {}
    __answerers__: ClassVar[Mapping[type[Any], Method]] = {}
    #: Raise it when the same events lead to another state than before: snapshots of the old one are then set aside.
    code_version: ClassVar[int] = 1
    #: What to do about an event whose method raises: ``"stop"`` answering, ``"park"`` it and what follows under the
    #: same key, or ``"skip"`` it. With the latter two queries must say that an incomplete answer will do. What the
    #: method changed before it raised stays changed: look first, then change. A `TableView` changes it back.
    poison: ClassVar[Poison] = "stop"

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        require_known_state(cls)
        cls.__appliers__ = declared(cls, "applies", Event, more="about")
        cls.__answerers__ = answerers = dict(declared(cls, "answers", Query))
        for query, method in answerers.items():
            promised = answer_type(query)
            if method.returns != promised:
                raise DefinitionError(
                    f"the method returns {method.returns!r}, but {query.__name__} promises {promised!r}",
                    method.place,
                    place_of(query),
                )
            answerers[query] = method._replace(function=answering(method.function, promised))

    @classmethod
    def __checked__(cls) -> None:
        """What an `App` sees to: that no field is a collection that a snapshot can't give back.

        Raises:
            DefinitionError: one is, and the class does not override `snapshot`.
        """
        if cls.snapshot is View.snapshot:
            require_storable(cls)

    def snapshot(self) -> Iterator[bytes] | None:
        """The state in pieces, each made when it is asked for, while nothing else changes the state.

        Override it together with `restore` where a field holds what msgspec can't encode, or return None to have no
        snapshots: the state is then made from the log at each opening.
        """
        return pieces_of(self)

    def restore(self, piece: bytes) -> None:
        """Take up the next piece of a snapshot, on a fresh instance, in the order in which they were made."""
        add_piece(self, piece)

"""How a method of a write model or a view says which message it is for.

Here: the decorator `applies`, which both sides share; the reading of decorated methods into a table, and every check
that one class alone allows. Not here: checks across classes (`app`), and any call of a method.

The message is read from the annotation of the method's first parameter after ``self``, so that what the type checker
sees is what is dispatched on.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import msgspec

from millstream.engine.application.about import About
from millstream.engine.application.copies import with_own_event
from millstream.engine.application.messages import Event, Message, Query
from millstream.engine.application.schedules import Schedule, Unschedule
from millstream.engine.errors import DefinitionError

__all__ = [
    "Method",
    "ReactionMethod",
    "answer_type",
    "applies",
    "declared",
    "declared_reactions",
    "given_name",
    "hints_of",
    "key_field",
    "mark",
    "marked",
    "may_time",
    "pieces_of_first",
    "place_of",
    "yielded_by",
]

_MARK = "__millstream__"
#: Decorators whose methods are no generators: what they do is done when they are called.
_PLAIN = frozenset({"applies", "answers"})
_NAME = "__millstream_name__"
_ABOUT = "about: About"

Applies = TypeVar(
    "Applies",
    bound=Callable[[Any, Any], None]
    | Callable[[Any, Any, About], None]
    | Callable[[Any, Any], Iterator[Any]]
    | Callable[[Any, Any, About], Iterator[Any]],
)
M = TypeVar("M", bound=Message)


class Method(NamedTuple):
    """A decorated method: the function to call with ``(state, message)``; or with a third argument, where it asks for
    more: a handler for the context, what applies an event for what is known about it.

    Where an event can change, what applies it is given a copy by ``function`` itself.
    """

    function: Callable[..., Any]
    wants_more: bool
    returns: Any
    place: str


class ReactionMethod(NamedTuple):
    """A decorated method that reacts to events of one type; what the log calls it."""

    name: str
    event: type[Event]
    method: Method


def applies(method: Applies) -> Applies:
    """Mark a method as the one that changes the state for one type of event.

    ``def deposited(self, event: Deposited) -> None``; or ``def deposited(self, event: Deposited, about: About)``, for
    one that must know when that was, who did it, or why. What both hold is this side's own: a copy, where it can
    change at all. The method must accept every event that was ever written, raise nothing, and depend on nothing but
    the state and what it is given: it runs when the event happens, and at every replay.
    """
    return cast(Applies, mark(method, "applies"))


def mark(method: Any, kind: str, name: str | None = None) -> Any:
    """Remember on the function which decorator it had, and what name it was given there."""
    if not inspect.isfunction(method):
        raise DefinitionError(f"@{kind} goes on a plain method, not on {method!r}")
    setattr(method, _MARK, kind)
    if name is not None:
        setattr(method, _NAME, name)
    return method


def place_of(thing: Any) -> str:
    """Where a class or function is written, as errors name it: ``module.Qualified.name``."""
    return f"{thing.__module__}.{thing.__qualname__}"


def declared(
    owner: type, kind: str, base: type[Message], *, more: str | None = None, yields: bool = False
) -> Mapping[type[Message], Method]:
    """The methods of ``owner`` with decorator ``kind``, by message type.

    Args:
        owner: the class to read, inherited methods included.
        kind: the decorator's name.
        base: what the messages must be: `Command`, `Event` or `Query`.
        more: what a second parameter is called, where one is allowed: ``context`` or ``about``.
        yields: whether what applies an event may be a generator; else it would do nothing, and is refused.

    Raises:
        DefinitionError: a method has no usable annotation or signature, or two are for the same message.
    """
    found: dict[type[Message], Method] = {}
    for function in marked(owner, kind):
        message, method = _read(function, kind, base, more)
        if kind in _PLAIN and not yields and inspect.isgeneratorfunction(function):
            raise DefinitionError(f"an @{kind} method does its work when it is called: it yields nothing", method.place)
        if message in found:
            raise DefinitionError(f"{message.__name__} has two @{kind} methods", found[message].place, method.place)
        found[message] = method
    return types.MappingProxyType(found)


def declared_reactions(owner: type) -> tuple[ReactionMethod, ...]:
    """The methods of ``owner`` that react, in the order in which they are written, those that are inherited first.

    Raises:
        DefinitionError: a method has no usable annotation or signature, or a name that is none.
    """
    found: list[ReactionMethod] = []
    for function in marked(owner, "reacts"):
        event, method = _read(function, "reacts", Event, None)
        name = given_name(function, f"{owner.__name__}.{function.__name__}")
        found.append(ReactionMethod(name, cast(type[Event], event), method))
    return tuple(found)


def given_name(function: Callable[..., Any], usual: str) -> str:
    """What the log calls a method.

    Raises:
        DefinitionError: its decorator was given a name that is none.
    """
    name = getattr(function, _NAME, usual)
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise DefinitionError(f"a name in the log is a text that can be printed, not {name!r}", place_of(function))
    return name


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """What a method's annotations mean.

    Raises:
        DefinitionError: one can't be resolved.
    """
    try:
        return get_type_hints(function)
    except NameError as error:
        raise DefinitionError(
            f"an annotation can't be resolved: {error}; use names of the module", place_of(function)
        ) from error


def marked(owner: type, kind: str) -> Iterator[Callable[..., Any]]:
    """The methods of a class with a decorator, in the order in which they are written, inherited ones first."""
    attributes: dict[str, Any] = {}
    for cls in reversed(owner.__mro__):
        attributes |= vars(cls)  # what overrides another one takes its place
    for function in attributes.values():
        if getattr(function, _MARK, None) == kind:
            yield function


def _read(
    function: Callable[..., Any], kind: str, base: type[Message], more: str | None
) -> tuple[type[Message], Method]:
    place = place_of(function)
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise DefinitionError(f"an @{kind} method is a plain function: pure code has nothing to await", place)
    parameters = list(inspect.signature(function).parameters.values())[1:]
    if not 1 <= len(parameters) <= (2 if more else 1) or any(p.kind > p.POSITIONAL_OR_KEYWORD for p in parameters):
        shape = f"(self, message) or (self, message, {more})" if more else "(self, message)"
        raise DefinitionError(f"an @{kind} method takes {shape}", place)
    hints = hints_of(function)
    if parameters[0].name not in hints:
        raise DefinitionError(f"parameter {parameters[0].name!r} needs an annotation: the {base.__name__} it is", place)
    message = hints[parameters[0].name]
    if not (isinstance(message, type) and issubclass(message, base) and message is not base):
        raise DefinitionError(
            f"an @{kind} method is for one subclass of {base.__name__}, not for {message!r}; "
            "give each message a method of its own",
            place,
        )
    if more == "about" and len(parameters) == 2 and hints.get(parameters[1].name) is not About:
        raise DefinitionError(f"parameter {parameters[1].name!r} is what is known about the event: {_ABOUT}", place)
    called = with_own_event(function, message) if base is Event else function
    return message, Method(called, len(parameters) == 2, hints.get("return"), place)


def key_field(message: type[Message]) -> str | None:
    """The name of the message's `Key` field, if it has one.

    Raises:
        DefinitionError: two fields are keys, a key is not a plain string, or an annotation can't be resolved.
    """
    try:
        hints = get_type_hints(message, include_extras=True)
    except NameError as error:
        raise DefinitionError(
            f"an annotation can't be resolved: {error}; use names of the module", place_of(message)
        ) from error
    keys = [(name, annotation) for name, annotation in hints.items() if _mentions_key(annotation)]
    if len(keys) > 1:
        raise DefinitionError(
            f"a message has one key; these are several: {', '.join(name for name, _ in keys)}", place_of(message)
        )
    for name, annotation in keys:
        if any(_is_personal(mark) for mark in getattr(annotation, "__metadata__", ())):
            raise DefinitionError(
                f"a Key is in the open, in every commit and index, so field {name!r} can't be Personal: give the "
                "person a number of your own as the key",
                place_of(message),
            )
        bare = get_args(annotation)[0] if hasattr(annotation, "__metadata__") else annotation
        if bare is not str:
            raise DefinitionError(
                f"a Key is a string that is always there; field {name!r} is {annotation!r}", place_of(message)
            )
        return name
    return None


def _mentions_key(annotation: Any) -> bool:
    if any(
        isinstance(m, msgspec.Meta) and (m.extra or {}).get("millstream") == "key"
        for m in getattr(annotation, "__metadata__", ())
    ):
        return True
    return any(_mentions_key(part) for part in get_args(annotation))


def _is_personal(mark: Any) -> bool:
    return isinstance(mark, msgspec.Meta) and (mark.extra or {}).get("millstream") == "personal"


def yielded_by(method: Method, base: type[M]) -> tuple[type[M], ...]:
    """The messages that a return annotation names one by one: ``Iterator[Deposited | Withdrawn]``.

    Args:
        method: yields them.
        base: what they are: `Event` of a handler, `Command` of a reaction.
    """
    return tuple(
        piece
        for piece in pieces_of_first(method.returns)
        if isinstance(piece, type) and issubclass(piece, base) and piece is not base
    )


def may_time(handler: Method) -> bool:
    """Whether the annotation of a handler says that it sets timers, or calls them off."""
    return any(piece in (Schedule, Unschedule) for piece in pieces_of_first(handler.returns))


def pieces_of_first(returns: Any) -> tuple[Any, ...]:
    """What is yielded, from an annotation: the parts of its first argument."""
    return tuple(
        piece
        for part in get_args(returns)[:1]
        for piece in (get_args(part) if get_origin(part) in (Union, types.UnionType) else (part,))
    )


def answer_type(query: type[Message]) -> Any:
    """What a query's class promises as its answer: ``int | None`` for ``class BalanceOf(Query[int | None])``.

    Raises:
        DefinitionError: the class does not say.
    """
    for cls in query.__mro__:
        for base in cls.__dict__.get("__orig_bases__", ()):
            if get_origin(base) is Query and not isinstance(get_args(base)[0], TypeVar):
                return get_args(base)[0]
    raise DefinitionError(
        f"{query.__name__} does not say what its answer is: class {query.__name__}(Query[…])", place_of(query)
    )

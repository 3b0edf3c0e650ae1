"""What an application does, as a list: what handles, applies, reacts to, performs and answers which message.

Here: reading that off an `App`, and drawing it. Not here: any rule; nothing is called, and nothing is run. What a
method yields is what its annotation names one by one, or else which messages its code names: a hint, not a promise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import CodeType, FunctionType
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from millstream.engine.application.app import App, tag_of
from millstream.engine.application.messages import Command, Event
from millstream.engine.application.methods import Method, yielded_by

__all__ = ["Kind", "Step", "Verb", "mermaid_of", "outline_of"]

Kind: TypeAlias = Literal["command", "event", "query"]
Verb: TypeAlias = Literal["handles", "applies", "reacts", "performs", "answers"]


class Step(NamedTuple):
    """One method: the message that it is for, what it does with it, its name, and the messages that may follow.

    ``gives`` are a handler's events, a reaction's and an effect's commands, as far as annotations say; empty otherwise.
    """

    kind: Kind
    message: str
    verb: Verb
    by: str
    gives: tuple[str, ...] = ()


def outline_of(app: App) -> list[Step]:
    """Every method of an application with its message: commands first, then events, then queries."""
    return [*_handled(app), *_followed(app), *_answered(app)]


def _handled(app: App) -> Iterator[Step]:
    for command, entry in app.commands.items():
        model = app.models[entry.model]
        gives = _given(entry.method, model, Event, app.events)
        yield Step("command", tag_of(command), "handles", _name(model, entry.method.function), gives)


def _followed(app: App) -> Iterator[Step]:
    for event, entry in app.events.items():
        tag = tag_of(event)
        yield from (Step("event", tag, "applies", app.models[index].__name__) for index, _ in entry.appliers)
        for reaction in app.reactions.get(event, ()):
            gives = _given(reaction.method, app.models[reaction.model], Command, app.commands)
            yield Step("event", tag, "reacts", reaction.name, gives)
        for effect in app.effects.get(event, ()):
            ends = () if effect.method.gave_up is None else _pieces(effect.method.gave_up.returns)
            returned = dict.fromkeys((*_pieces(effect.method.returns), *ends))
            yield Step("event", tag, "performs", effect.name, _tags(returned, app.commands))
        for view in app.views:
            if event in view.__appliers__:
                yield Step("event", tag, "applies", view.__name__)


def _answered(app: App) -> Iterator[Step]:
    for query, entry in app.queries.items():
        yield Step("query", tag_of(query), "answers", app.views[entry.view].__name__)


def _name(owner: type[Any], function: Callable[..., Any]) -> str:
    return f"{owner.__name__}.{function.__name__}"


def _pieces(returns: Any) -> tuple[Any, ...]:
    return get_args(returns) or (returns,)


def _given(method: Method, owner: type[Any], base: type[Any], known: Mapping[type[Any], Any]) -> tuple[str, ...]:
    return _tags(yielded_by(method, base) or _named_in(method.function, owner), known)


def _tags(messages: Iterable[Any], known: Mapping[type[Any], Any]) -> tuple[str, ...]:
    classes = dict.fromkeys(each for each in messages if isinstance(each, type))
    return tuple(tag_of(message) for message in classes if message in known)


def _named_in(function: Callable[..., Any], owner: type[Any]) -> list[Any]:
    """What the code of a method names: globals of its module; and what methods of its class name that it calls."""
    found: list[Any] = []
    seen: set[CodeType] = set()
    left: list[Any] = [function]
    while left:
        each = left.pop(0)
        if not isinstance(each, FunctionType) or each.__code__ in seen:
            continue
        seen.add(each.__code__)
        for name in _names(each.__code__):
            found.append(each.__globals__.get(name))
            left.append(owner.__dict__.get(name))
    return found


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


_SHAPES: Mapping[str, tuple[str, str]] = {
    "command": ("[/", "/]"),
    "event": ("(", ")"),
    "query": ("{{", "}}"),
    "part": ("[", "]"),
}


def mermaid_of(steps: Sequence[Step]) -> str:
    """A flowchart: commands lead to what handles them, that to events, those to what follows, and queries to views."""
    nodes: dict[str, str] = {}
    arrows: dict[str, None] = {}

    def node(shape: str, name: str) -> str:
        begin, end = _SHAPES[shape]
        return nodes.setdefault(f"{shape} {name}", f'n{len(nodes)}{begin}"{name}"{end}').partition(begin)[0]

    for step in steps:
        part = node("part", step.by.partition(".")[0] if step.verb == "handles" else step.by)
        message = node(step.kind, step.message)
        given = "event" if step.verb == "handles" else "command"
        into = "-.->" if step.verb == "applies" else "-->"
        if f"{part} --> {message}" not in arrows:  # what yields an event applies it, too: one arrow says enough
            arrows[f"{message} {into}|{step.verb}| {part}"] = None
        arrows |= dict.fromkeys(f"{part} --> {node(given, name)}" for name in step.gives)
    lines = ["flowchart LR", *(f"    {each}" for each in nodes.values()), *(f"    {each}" for each in arrows)]
    return "\n".join(lines) + "\n"

"""A ready-made view: what happened to a key, step by step, with who, when, why, and what led to it.

Here: which events are steps, keeping them, and a page of them. Not here: what is known about an event (`About`).

    class Story(Timeline):
        events: ClassVar = (Held, Sold, Released)

    app = App(models=[…], views=[Story])
    page = await engine.ask(TimelineOf("A-12"))
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from millstream.engine.application.about import About, own_about
from millstream.engine.application.app import tag_of
from millstream.engine.application.messages import Event, Query
from millstream.engine.application.methods import Method, key_field, place_of
from millstream.engine.application.validation import encode
from millstream.engine.errors import DefinitionError, InvalidMessage
from millstream.views.view import View, answers

__all__ = ["Step", "Timeline", "TimelineOf", "TimelinePage"]

#: Steps of a page, by default; and at most.
_PAGE_STEPS = 50
_PAGE_STEPS_MAX = 500


class Step(msgspec.Struct, frozen=True):
    """One thing that happened to a key: its number among those of the key, from 1 on; the ``type`` of the event, the
    event itself as JSON has it, and what the log says ``about`` it.
    """

    number: int
    type: str
    event: dict[str, Any]
    about: About


class TimelinePage(msgspec.Struct, frozen=True):
    """Some of what happened to a key, the latest first.

    ``before`` is where the next page begins, None if there is none. ``steps_in_all`` is how many steps the key has had,
    and ``forgotten`` how many of the earliest are not kept any more.
    """

    steps: list[Step]
    before: int | None
    steps_in_all: int
    forgotten: int


class TimelineOf(Query[TimelinePage]):
    """What happened to a key, the latest first.

    ``before`` is what the page before this one has as ``before``; ``limit`` is how many, 500 at most. A step that is
    kept meanwhile is on exactly one of the pages, whatever happens between two.
    """

    key: str
    before: Annotated[int, Meta(ge=1)] | None = None
    limit: Annotated[int, Meta(ge=1, le=_PAGE_STEPS_MAX)] = _PAGE_STEPS


class _Kept(msgspec.Struct, array_like=True, frozen=True):
    """A step as it is kept: the event as JSON, which has no class that might change."""

    type: str
    event: str
    about: About


class _Story(msgspec.Struct):
    """The steps of one key, and how many came before the first that is kept."""

    forgotten: int = 0
    steps: list[_Kept] = []


class Timeline(View):
    """What happened to each key. A subclass says which ``events`` are steps; an application has one such class.

    Of each key the last ``steps_max`` steps are kept. An event is a step of its own key; to say otherwise, override
    `keys_of`. Besides, a subclass is a view as any other, and may apply and answer more.

    Raises (when the class is made):
        DefinitionError: ``events`` is no tuple, has something that is no event, or one without a key while `keys_of` is
            not overridden; the class has a method of its own for one of them; or ``steps_max`` is less than 1.
    """

    #: The events that are steps.
    events: ClassVar[tuple[type[Event], ...]] = ()
    #: How many steps of a key are kept; the earliest is forgotten first.
    steps_max: ClassVar[int] = 1_000

    stories: dict[str, _Story] = {}

    #: By event, which of its fields is the key.
    __key_fields__: ClassVar[Mapping[type[Event], str]] = {}
    #: A snapshot that was taken with another bound has more steps, or fewer, than a replay keeps.
    __bounds__: ClassVar[tuple[int, ...]] = ()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        own = dict(cls.__appliers__)
        if not isinstance(cls.events, tuple):
            raise DefinitionError(f"`events` is a tuple of classes, not {cls.events!r}", place_of(cls))
        for event in cls.events:
            _require_step(cls, event, own)
        if type(cls.steps_max) is not int or cls.steps_max < 1:
            problem = f"`steps_max` is how many steps of a key are kept, not {cls.steps_max!r}"
            raise DefinitionError(problem, place_of(cls))
        cls.__bounds__ = (cls.steps_max,)
        cls.__key_fields__ = {event: name for event in cls.events if (name := key_field(event)) is not None}
        step = Method(_step, True, None, f"{place_of(cls)}.events")
        cls.__appliers__ = MappingProxyType({**own, **dict.fromkeys(cls.events, step)})

    def keys_of(self, event: Event, about: About) -> Iterable[str]:
        """The keys to which this has happened: the event's own, as it is today. What it gives must follow from the
        event and its `About` alone.
        """
        return (getattr(event, self.__key_fields__[type(event)]),)

    @answers
    def steps_of(self, query: TimelineOf) -> TimelinePage:
        """A page.

        Raises:
            InvalidMessage: ``limit`` or ``before`` is out of its bounds.
        """
        if not 1 <= query.limit <= _PAGE_STEPS_MAX or (query.before is not None and query.before < 1):
            raise InvalidMessage("TimelineOf", f"`limit` is from 1 to {_PAGE_STEPS_MAX}, and `before` is 1 or more")
        story = self.stories.get(query.key) or _Story()
        first, in_all = story.forgotten + 1, story.forgotten + len(story.steps)
        end = in_all + 1 if query.before is None else min(query.before, in_all + 1)
        start = max(first, end - query.limit)
        steps = [
            Step(number, kept.type, msgspec.json.decode(kept.event), kept.about)
            for number, kept in enumerate(story.steps[start - first : max(0, end - first)], start)
        ]
        return TimelinePage(steps[::-1], start if steps and start > first else None, in_all, story.forgotten)


def _step(view: Timeline, event: Event, about: About) -> None:
    """Keep an event as a step of each of its keys."""
    keys = view.keys_of(event, about)
    if isinstance(keys, str):
        raise TypeError(f"keys_of gives keys, and has given one text, {keys!r:.80}: give ({keys!r:.80},)")
    tag, data = tag_of(type(event)), encode(event).decode()
    for key in dict.fromkeys(keys):
        if not isinstance(key, str):
            raise TypeError(f"keys_of gives texts, and has given {key!r:.80}")
        kept = _Kept(tag, data, own_about(about))
        story = view.stories.get(key)
        if story is None:
            story = view.stories[key] = _Story()
        story.steps.append(kept)
        if len(story.steps) > view.steps_max:
            del story.steps[0]
            story.forgotten += 1


def _require_step(cls: type[Timeline], event: Any, own: Any) -> None:
    place = place_of(cls)
    if not (isinstance(event, type) and issubclass(event, Event) and event is not Event):
        raise DefinitionError(f"`events` are classes of events, not {event!r}", place)
    if event in own:
        raise DefinitionError(f"{event.__name__} is among its `events`, and has a method", place, own[event].place)
    if key_field(event) is None and cls.keys_of is Timeline.keys_of:
        problem = f"{event.__name__} has no key, so it happens to none: leave it out, or say whose it is by `keys_of`"
        raise DefinitionError(problem, place, place_of(event))

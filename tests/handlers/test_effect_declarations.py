"""What can be wrong with effects is found when their class, or the application, is made."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from millstream.engine import App, Command, DefinitionError, Event, Key
from millstream.handlers import Attempt, Effects, Reaction, WriteModel, applies, gave_up, handles, performs, reacts


class Do(Command):
    key: Key


class Stray(Command):
    key: Key


class Done(Event):
    key: Key


class Told(Event):
    key: Key


class Elsewhere(Event):
    key: Key


class Doing(WriteModel):
    @handles
    def do(self, command: Do) -> Iterator[Done | Told]:
        yield Done(command.key)

    @applies
    def done(self, event: Done) -> None: ...


class Good(Effects):
    @performs(name="tell")
    async def tell(self, event: Told, attempt: Attempt) -> Do | None: ...

    @gave_up
    def not_told(self, event: Told, attempt: Attempt, problem: str) -> None: ...


def test_an_event_that_is_for_the_outside_alone_needs_nobody_who_applies_it() -> None:
    app = App(models=[Doing], effects=[Good])
    assert [entry.name for entry in app.effects[Told]] == ["tell"]
    with pytest.raises(DefinitionError, match="no model and no view applies event Told"):
        App(models=[Doing])


def test_one_without_async_is_refused() -> None:
    with pytest.raises(DefinitionError, match=r"is async def: the outside world takes time"):

        class Plain(Effects):
            @performs  # type: ignore[type-var]
            def tell(self, event: Told) -> None: ...


def test_what_gives_up_is_a_plain_function() -> None:
    with pytest.raises(DefinitionError, match=r"@gave_up method is a plain function"):

        class Waiting(Effects):
            @gave_up  # type: ignore[type-var]
            async def not_told(self, event: Told, attempt: Attempt, problem: str) -> None: ...


@pytest.mark.parametrize(
    ("terms", "problem"),
    [
        ({"attempts_max": 0}, "attempts_max is a number of 1 or more, not 0"),
        ({"concurrency_max": 1.5}, "concurrency_max is a number of 1 or more"),
        ({"timeout_seconds": 0}, "timeout_seconds is a positive number, not 0"),
        ({"timeout_seconds": None}, "timeout_seconds is a positive number, not None"),
        ({"per_second": -1}, "per_second is a positive number"),
        ({"after_parked": "maybe"}, r"after_parked is one of \('wait', 'pass'\)"),
        ({"name": ""}, "a name in the log is a text"),
    ],
)
def test_terms_that_are_none_are_refused(terms: dict[str, Any], problem: str) -> None:
    with pytest.raises(DefinitionError, match=problem):

        class Wrong(Effects):
            @performs(**terms)
            async def tell(self, event: Told) -> None: ...


def test_giving_up_what_nobody_performs_and_twice_is_refused() -> None:
    with pytest.raises(DefinitionError, match="nothing is given up for Told"):

        class Nothing(Effects):
            @gave_up
            def not_told(self, event: Told, attempt: Attempt, problem: str) -> None: ...

    with pytest.raises(DefinitionError, match="Told has two @gave_up methods"):

        class Twice(Effects):
            @gave_up
            def not_told(self, event: Told, attempt: Attempt, problem: str) -> None: ...

            @gave_up
            def nor_now(self, event: Told, attempt: Attempt, problem: str) -> None: ...


def test_a_signature_or_an_answer_that_is_none_is_refused() -> None:
    with pytest.raises(DefinitionError, match=r"takes \(self, event, attempt\)"):

        class Many(Effects):
            @performs
            async def tell(self, event: Told, attempt: Attempt, more: str) -> None: ...

    with pytest.raises(DefinitionError, match="is for one subclass of Event"):

        class Wide(Effects):
            @performs
            async def tell(self, event: Event) -> None: ...

    with pytest.raises(DefinitionError, match="returns a command or None, not <class 'str'>"):

        class Text(Effects):
            @performs  # type: ignore[type-var]
            async def tell(self, event: Told) -> str:
                return ""

    with pytest.raises(DefinitionError, match="says what it returns"):

        class Silent(Effects):
            @performs
            async def tell(self, event: Told): ...  # type: ignore[no-untyped-def]


def test_an_application_knows_the_event_and_handles_the_command() -> None:
    class Foreign(Effects):
        @performs
        async def tell(self, event: Elsewhere) -> None: ...

    with pytest.raises(DefinitionError, match="no model yields or applies event Elsewhere") as refused:
        App(models=[Doing], effects=[Good, Foreign])
    assert len(refused.value.places) == 2

    class Unhandled(Effects):
        @performs
        async def done(self, event: Done) -> Do | Stray:
            raise NotImplementedError

    with pytest.raises(DefinitionError, match="no model handles command Stray") as refused:
        App(models=[Doing], effects=[Good, Unhandled])
    assert len(refused.value.places) == 2
    with pytest.raises(DefinitionError, match="is no class of effects"):
        App(models=[Doing], effects=[Good, Doing])  # type: ignore[list-item]


def test_names_are_of_one_each_also_of_reactions() -> None:
    class Same(Effects):
        @performs(name="tell")
        async def done(self, event: Done) -> None: ...

    with pytest.raises(DefinitionError, match="two have the name 'tell'"):
        App(models=[Doing], effects=[Good, Same])

    class Reacting(WriteModel):
        @reacts(name="tell")
        def done(self, event: Done) -> Reaction:
            yield from ()

    with pytest.raises(DefinitionError, match="two have the name 'tell'"):
        App(models=[Doing, Reacting], effects=[Good])
    with pytest.raises(DefinitionError, match="there is an effect 'tell' today"):
        App(models=[Doing], effects=[Good], renamed={"tell": "tell"})
    assert App(models=[Doing], effects=[Good], renamed={"old": "tell"}).effects_by_name["old"].name == "tell"


def test_several_attempts_without_what_they_need_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    class Again(Effects):
        @performs(attempts_max=2)
        async def done(self, event: Done) -> None: ...

    monkeypatch.setitem(sys.modules, "tenacity", None)
    with pytest.raises(DefinitionError, match=r"pip install 'millstream\[effects\]'"):
        App(models=[Doing], effects=[Good, Again])
    assert App(models=[Doing], effects=[Good]).effects

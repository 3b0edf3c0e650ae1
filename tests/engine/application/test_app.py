from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import pytest

from millstream.engine import KEY, App, Command, Context, DefinitionError, Event, Key, Query
from millstream.engine.application.app import tag_of
from millstream.handlers import Retired, WriteModel, applies, handles
from millstream.views import View, answers
from tests.shop import shop


class Do(Command):
    key: Key


class Undo(Command):
    key: Key


class Done(Event):
    key: Key


class Undone(Event):
    key: Key


class HowMany(Query[int]):
    pass


class Doer(WriteModel):
    done: int = 0

    @handles
    def do(self, command: Do) -> Iterator[Event]:
        yield Done(command.key)

    @applies
    def did(self, event: Done) -> None:
        self.done += 1


class Count(View):
    count: int = 0

    @applies
    def did(self, event: Done) -> None:
        self.count += 1

    @answers
    def how_many(self, query: HowMany) -> int:
        return self.count


def test_an_app_lists_what_it_is_made_of() -> None:
    app = App(models=[Doer], views=[Count])
    assert (app.name, list(app.commands), list(app.events), list(app.queries)) == ("Doer", [Do], [Done], [HowMany])
    assert repr(app) == "<App 'Doer': 1 models, 1 views>"


def refused(*places: str, models: Any = (Doer,), views: Any = (), name: str | None = None) -> str:
    with pytest.raises(DefinitionError) as raised:
        App(models=models, views=views, name=name)
    for place in places:
        assert place in str(raised.value)
    return str(raised.value)


def test_a_command_that_two_models_handle_is_refused_with_both_places() -> None:
    class Other(WriteModel):
        @handles
        def also(self, command: Do) -> Iterator[Event]:
            yield Done(command.key)

    assert "command Do is handled twice" in refused("Doer.do", "Other.also", models=[Doer, Other])


def test_a_query_that_two_views_answer_is_refused_with_both_places() -> None:
    class Other(View):
        @answers
        def also(self, query: HowMany) -> int:
            return 0

    assert "query HowMany is answered twice" in refused("Count.how_many", "Other.also", views=[Count, Other])


def test_an_event_that_only_views_care_about_needs_no_method_in_a_model() -> None:
    class Other(View):
        @applies
        def undone(self, event: Undone) -> None: ...

    app = App(models=[Doer], views=[Count, Other])
    assert {event: len(entry.appliers) for event, entry in app.events.items()} == {Done: 1, Undone: 0}


def test_an_event_that_a_handler_names_and_nobody_applies_is_refused_with_both_places() -> None:
    class Other(WriteModel):
        @handles
        def undo(self, command: Undo) -> Iterator[Done | Undone]:
            yield Undone(command.key)

    assert "no model and no view applies event Undone" in refused("test_app.Undone", "Other.undo", models=[Doer, Other])


class Twin(Event, tag="Do"):
    key: Key


def test_two_messages_with_one_tag_are_refused_with_both_places() -> None:
    class Other(WriteModel):
        @applies
        def twin(self, event: Twin) -> None: ...

    assert "two have the tag 'Do'" in refused("test_app.Do", "Twin", models=[Doer, Other])


class DoneTwice(Done):
    pass


class DoneThrice(DoneTwice):
    pass


class DoesAll(Doer):
    @applies
    def did_twice(self, event: DoneTwice) -> None:
        self.done += 2


def test_an_event_that_derives_from_one_which_a_side_applies_is_applied_by_it_or_refused_with_both_places() -> None:
    class Thrice(WriteModel):
        @applies
        def thrice(self, event: DoneThrice) -> None: ...

    class Elsewhere(WriteModel):
        @applies
        def twice(self, event: DoneTwice) -> None: ...

    problem = "DoneTwice is a Done, and @applies for Done is for that very class: give Doer a method for DoneTwice, too"
    assert problem in refused("test_app.DoneTwice", "Doer.did", models=[Doer, Elsewhere])
    assert "give Count a method for DoneTwice" in refused(
        "test_app.DoneTwice", "Count.did", models=[DoesAll], views=[Count]
    )
    assert "DoneThrice is a Done" in refused("DoneThrice", "Doer.did", models=[DoesAll, Thrice])
    assert set(App(models=[DoesAll]).events) == {Done, DoneTwice}
    assert set(App(models=[Doer]).events) == {Done}


def test_two_classes_with_one_name_are_refused() -> None:
    assert "two have the class 'Doer'" in refused("test_app.Doer", models=[Doer, Doer])


def test_a_model_whose_fields_have_no_default_is_refused() -> None:
    class Needy(WriteModel):
        size: int

    assert "starts without arguments" in refused("Needy", models=[Needy])


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ([], "at least one write model"),
        ([Count], "is not a write model"),
        ([object], "is not a write model"),
        ([Doer()], "is not a write model"),
    ],
)
def test_what_is_not_a_model_is_refused(models: Any, message: str) -> None:
    assert message in refused(models=models)


def test_what_is_not_a_view_is_refused() -> None:
    assert "is not a view" in refused(views=[Doer])


def test_an_app_without_events_or_name_is_refused() -> None:
    class Idle(WriteModel):
        pass

    assert "at least one event" in refused("Idle", models=[Idle])
    assert "name is not empty" in refused(name="")


def test_two_methods_for_one_message_are_refused_with_both_places() -> None:
    with pytest.raises(DefinitionError, match=r"Do has two @handles methods .*Twice\.first and .*Twice\.second"):

        class Twice(WriteModel):
            @handles
            def first(self, command: Do) -> Iterator[Event]:
                yield Done(command.key)

            @handles
            def second(self, command: Do) -> Iterator[Event]:
                yield Done(command.key)


def unannotated(self: Any, command) -> Iterator[Event]:  # type: ignore[no-untyped-def]
    yield Done("k")


def for_any_command(self: Any, command: Command) -> Iterator[Event]:
    yield Done("k")


def for_an_event(self: Any, event: Done) -> Iterator[Event]:
    yield event


def for_two(self: Any, command: Do | Undo) -> Iterator[Event]:
    yield Done("k")


def with_three(self: Any, command: Do, context: Context, more: int) -> Iterator[Event]:
    yield Done("k")


def with_none(self: Any) -> Iterator[Event]:
    yield Done("k")


def with_keyword(self: Any, *, command: Do) -> Iterator[Event]:
    yield Done("k")


def unresolved(self: Any, command: NotThere) -> Iterator[Event]:  # type: ignore[name-defined] # noqa: F821
    yield Done("k")


async def asynchronous(self: Any, command: Do) -> Any:
    return []


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (unannotated, "'command' needs an annotation"),
        (for_any_command, "is for one subclass of Command"),
        (for_an_event, "is for one subclass of Command"),
        (for_two, "give each message a method of its own"),
        (with_three, r"takes \(self, message\) or \(self, message, context\)"),
        (with_none, r"takes \(self, message\)"),
        (with_keyword, r"takes \(self, message\)"),
        (unresolved, "an annotation can't be resolved: name 'NotThere'"),
        (asynchronous, "pure code has nothing to await"),
    ],
)
def test_a_handler_without_a_usable_signature_is_refused_when_the_class_is_made(method: Any, message: str) -> None:
    handles(method)
    with pytest.raises(DefinitionError, match=message) as raised:
        type("Wrong", (WriteModel,), {"method": method, "__module__": __name__})
    assert f"test_app.{method.__name__}" in str(raised.value)


def test_a_view_has_no_context() -> None:
    with pytest.raises(DefinitionError, match="parameter 'context' is what is known about the event: about: About"):

        class Curious(View):
            @applies  # type: ignore[type-var]
            def did(self, event: Done, context: Context) -> None: ...


def test_an_answer_of_another_type_than_the_query_promises_is_refused_with_both_places() -> None:
    with pytest.raises(DefinitionError, match=r"returns .*str.*HowMany promises .*int.*Liar\.how_many and .*HowMany"):

        class Liar(View):
            @answers
            def how_many(self, query: HowMany) -> str:
                return "many"


class Vague(Query):  # type: ignore[type-arg]
    pass


def test_a_query_that_does_not_say_its_answer_is_refused() -> None:
    with pytest.raises(DefinitionError, match=r"class Vague\(Query\[…\]\)"):

        class Answers(View):
            @answers
            def vague(self, query: Vague) -> int:
                return 1


class KeyOnNumber(Command):
    account: Annotated[int, KEY]


class KeyThatMayBeMissing(Command):
    account: Key | None


class KeyInList(Command):
    accounts: list[Key]


class TwoKeys(Command):
    one: Key
    two: Key


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (KeyOnNumber, "a Key is a string that is always there; field 'account'"),
        (KeyThatMayBeMissing, "a Key is a string that is always there; field 'account'"),
        (KeyInList, "a Key is a string that is always there; field 'accounts'"),
        (TwoKeys, "a message has one key; these are several: one, two"),
    ],
)
def test_a_key_that_is_not_one_string_is_refused(command: Any, message: str) -> None:
    def handler(self: Any, command: Any) -> Iterator[Event]:
        yield Done("k")

    handler.__annotations__["command"] = command
    other = type("Other", (WriteModel,), {"handler": handles(handler), "__module__": __name__})
    assert message in refused(command.__name__, models=[Doer, other])


def test_decorators_go_on_methods_only() -> None:
    with pytest.raises(DefinitionError, match="goes on a plain method"):
        handles(Doer)  # type: ignore[type-var]


def test_methods_are_inherited_and_can_be_overridden() -> None:
    class Child(Doer):
        @applies
        def did(self, event: Done) -> None:
            self.done += 2

    assert list(Child.__handlers__) == [Do]
    child = Child()
    Child.__appliers__[Done].function(child, Done("k"))
    assert child.done == 2


class DoneOnce(Retired, tag="Done"):
    """Has the name of an event of today."""


class UndoneOnce(Retired, tag="Undone"):
    pass


class UndoneTwice(Retired, tag="Undone"):
    pass


class DoOnce(Retired, tag="Do"):
    """Has the name of a command of today. In the log the two never stand in one place."""


def test_an_app_knows_its_retired_events_beside_those_of_today() -> None:
    app = App(models=[Doer], retired=[UndoneOnce])
    assert app.retired == {UndoneOnce}
    assert set(app.stored) == {Done, UndoneOnce}
    assert set(app.events) == {Done}


@pytest.mark.parametrize(
    ("retired", "message", "places"),
    [
        ([DoneOnce], "two have the tag 'Done'", ("test_app.Done", "test_app.DoneOnce")),
        ([UndoneOnce, UndoneTwice], "two have the tag 'Undone'", ("test_app.UndoneOnce", "test_app.UndoneTwice")),
        ([Undone], "is not a retired message: derive it from millstream.handlers.Retired", ("Undone",)),
        ([Doer], "is not a retired message", ("Doer",)),
        ([object], "is not a retired message", ("object",)),
        ([UndoneOnce()], "is not a retired message", ("UndoneOnce",)),
    ],
)
def test_a_retired_event_that_contradicts_the_others_is_refused_with_both_places(
    retired: Any, message: str, places: tuple[str, ...]
) -> None:
    with pytest.raises(DefinitionError, match=message) as raised:
        App(models=[Doer], retired=retired)
    assert all(place in str(raised.value) for place in places)


def test_a_retired_event_may_have_the_name_of_a_command_or_query_of_today() -> None:
    assert App(models=[Doer], retired=[DoOnce]).retired == {DoOnce}


def test_the_same_retired_event_may_be_listed_twice() -> None:
    assert App(models=[Doer], retired=[UndoneOnce, UndoneOnce]).retired == {UndoneOnce}


@pytest.mark.parametrize("poison", ["stop", "park", "skip"])
def test_a_view_says_what_it_does_about_events_that_it_can_not_apply(poison: Any) -> None:
    view = type("Patient", (Count,), {"__module__": __name__, "poison": poison})
    assert App(models=[Doer], views=[view]).views == (view,)


@pytest.mark.parametrize("poison", ["ignore", "", None, True])
def test_another_policy_than_those_three_is_refused(poison: Any) -> None:
    view = type("Patient", (Count,), {"__module__": __name__, "poison": poison})
    assert f"poison is one of ('stop', 'park', 'skip'), not {poison!r}" in refused("Patient", views=[view])


class AsField(Count):
    code_version: int = 2  # type: ignore[misc]


class PoisonAsField(Count):
    poison: str = "park"  # type: ignore[assignment, misc]


@pytest.mark.parametrize("version", ["2", 2.0, None, True])
def test_a_code_version_that_is_no_whole_number_is_refused(version: Any) -> None:
    view = type("Versioned", (Count,), {"__module__": __name__, "code_version": version})
    assert "code_version is a number of the class" in refused("Versioned", views=[view])
    model = type("Model", (Doer,), {"__module__": __name__, "code_version": version})
    assert "code_version is a number of the class" in refused("Model", models=[model])


def test_a_code_version_or_policy_that_became_a_field_of_the_state_is_refused() -> None:
    assert "no field of the state: write it without an annotation" in refused("AsField", views=[AsField])
    assert "poison is one of" in refused("PoisonAsField", views=[PoisonAsField])


def test_an_application_says_how_each_message_is_checked_and_why() -> None:
    described = {each.message: (each.exact, each.reason) for each in shop.describe()}
    assert described["Add"] == (True, None)
    assert all(exact == (reason is None) for exact, reason in described.values())
    assert set(described) == {tag_of(message) for message in (*shop.commands, *shop.events)}

"""Pages of an agenda: which entries they have, while others come and go."""

from __future__ import annotations

import random
from typing import Any

import pytest

from millstream.engine.application.agenda import PAGE_BYTES
from millstream.engine.errors import InvalidMessage, NotOnAgenda
from millstream.engine.write.agenda import Agenda
from millstream.engine.write.entries import Effect, Entry, Looking, Outcome, Timer
from millstream.engine.write.listing import Found, found_of, item_of

DUE = "2026-01-01T00:00:00.000000Z"


def timer(name: str, **more: Any) -> Timer:
    return Timer(name, "k", DUE, '{"type":"Ring"}', 1, **more)


def agenda_with(*entries: Any) -> Agenda:
    agenda = Agenda()
    for entry in entries:
        agenda.enter(entry)
    return agenda


def ids(found: Found) -> list[str]:
    return [entry.id for entry in found.entries]


OWED = Entry(1, "A.b", '{"type":"Sold"}')
PARKED = Entry(2, "A.b", '{"type":"Sold"}', error="KeyError", text="'x'")
EFFECT = Effect(3, "P.c", '{"type":"Sold"}', "k", 3, 0)
OUTCOME = Outcome(4, "P.c", ('{"type":"Paid"}', '{"type":"Sent"}'), "k", error="E", text="t")
ALL = agenda_with(timer("t1"), PARKED, EFFECT, OUTCOME, timer("t2", error="E"), OWED)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (Looking(), ["event:1/A.b", "timer:t1@k", "effect:3/P.c", "event:2/A.b", "outcome:4/P.c", "timer:t2@k"]),
        (Looking(kind="timer"), ["timer:t1@k", "timer:t2@k"]),
        (Looking(kind="timer", parked=False), ["timer:t1@k"]),
        (Looking(kind="timer", parked=True), ["timer:t2@k"]),
        (Looking(kind="outcome"), ["outcome:4/P.c"]),
        (Looking(kind="outcome", parked=False), []),
        (Looking(kind="event"), ["event:1/A.b", "event:2/A.b"]),
        (Looking(parked=True), ["event:2/A.b", "outcome:4/P.c", "timer:t2@k"]),
        (Looking(entry="timer:t2@k", kind="event"), ["timer:t2@k"]),
    ],
)
def test_a_page_has_what_was_asked_for_in_the_order_in_which_it_is_decided(asked: Looking, expected: list[str]) -> None:
    found = found_of(ALL, asked)
    assert (ids(found), found.next, found.total, found.parked) == (expected, None, 6, 3)


def test_an_entry_that_is_not_there_is_refused_by_name() -> None:
    for name in ("timer:t3@k", "nonsense", "effect:x/P.c"):
        with pytest.raises(NotOnAgenda, match=f"no '{name}'; it holds 6"):
            found_of(ALL, Looking(entry=name))


@pytest.mark.parametrize("after", ["", "1", "1.2", "1.2.3.4", "-1.0.0", "1.0.x", "1.0.1\n", "\u0661.\u0660.\u0661"])
def test_a_page_begins_where_another_has_said_and_nowhere_else(after: str) -> None:
    with pytest.raises(InvalidMessage, match="`after` is what the page before it has as `next`"):
        found_of(ALL, Looking(after=after))


def test_a_page_ends_where_its_messages_have_many_bytes_and_has_one_at_least() -> None:
    large = '{"type":"Sold","text":"' + "x" * PAGE_BYTES + '"}'
    agenda = agenda_with(*(Entry(position, "A.b", large) for position in (1, 2)))
    first = found_of(agenda, Looking())
    assert ids(first) == ["event:1/A.b"]
    second = found_of(agenda, Looking(after=first.next))
    assert (ids(second), second.next) == (["event:2/A.b"], None)


def test_what_stays_is_on_one_of_the_pages_whatever_comes_and_goes_meanwhile() -> None:
    chance = random.Random(7)
    for _ in range(300):
        agenda = agenda_with(*(timer(f"t{each}") for each in range(chance.randint(0, 30))))
        stays = {entry.id for entry in agenda}
        asked = Looking(limit=chance.randint(1, 7), kind=chance.choice((None, "timer")))
        seen, after = set[str](), None
        for turn in range(1_000):
            page = found_of(agenda, Looking(asked.kind, None, after, None, asked.limit))
            seen.update(ids(page))
            after = page.next
            if after is None:
                break
            for number in range(chance.randint(0, asked.limit - 1)):
                name = f"t{chance.randrange(40)}"
                match chance.choice(("strike", "set again", "park", "new")):
                    case "strike":
                        agenda.strike(("k", name))
                    case "set again":
                        agenda.enter(timer(name))
                    case "park":
                        agenda.enter(timer(name, error="E"))
                    case "new":
                        agenda.enter(timer(name := f"n{turn}.{number}"))
                stays.discard(timer(name).id)
        assert after is None, "it comes to an end"
        assert stays <= seen


def test_an_agenda_that_was_made_anew_is_shown_from_its_beginning() -> None:
    first = found_of(agenda_with(timer("a"), timer("b"), timer("c")), Looking(limit=2))
    again = agenda_with(timer("c"), timer("b"), timer("a"))
    assert ids(found_of(again, Looking(after=first.next))) == ["timer:c@k", "timer:b@k", "timer:a@k"]


def test_a_page_of_another_process_is_followed_by_the_first_of_this_one() -> None:
    agenda = agenda_with(timer("a"), timer("b"), timer("c"))
    after = found_of(agenda, Looking(limit=2)).next
    assert after is not None
    assert ids(found_of(agenda, Looking(after=after))) == ["timer:c@k"]
    of_another = f"00000000{after[8:]}" if not after.startswith("00000000") else f"00000001{after[8:]}"
    assert ids(found_of(agenda, Looking(after=of_another))) == ["timer:a@k", "timer:b@k", "timer:c@k"]


def test_an_entry_is_told_with_its_message_as_json_and_without_commands_to_some() -> None:
    told = {entry.id: item_of(entry) for entry in ALL}
    assert {name: (item.kind, item.type, item.parked) for name, item in told.items()} == {
        "event:1/A.b": ("event", "Sold", False),
        "timer:t1@k": ("timer", "Ring", False),
        "effect:3/P.c": ("effect", "Sold", False),
        "event:2/A.b": ("event", "Sold", True),
        "outcome:4/P.c": ("outcome", "Paid", True),
        "timer:t2@k": ("timer", "Ring", True),
    }
    outcome = told["outcome:4/P.c"]
    assert isinstance(outcome.commands, list)
    assert list(map(bytes, outcome.commands)) == [b'{"type":"Paid"}', b'{"type":"Sent"}']
    assert (outcome.text, outcome.without_commands.text) == ("t", None)
    assert not isinstance(outcome.without_commands.commands, list)
    assert told["event:2/A.b"].text
    assert told["event:2/A.b"].without_commands.text is None, "it may quote the command that failed"

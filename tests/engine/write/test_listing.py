"""Pages of an agenda: which entries they have, while others come and go."""

from __future__ import annotations

import random
from typing import Any

import pytest
from msgspec.structs import replace

from millstream.engine.application.agenda import PAGE_BYTES
from millstream.engine.errors import NotOnAgenda
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
    assert (ids(found), found.is_last, found.total, found.parked) == (expected, True, 6, 3)


def test_an_entry_that_is_not_there_is_refused_by_name() -> None:
    for name in ("timer:t3@k", "nonsense", "effect:x/P.c"):
        with pytest.raises(NotOnAgenda, match=f"no '{name}'; it holds 6"):
            found_of(ALL, Looking(entry=name))


def test_a_page_ends_where_its_messages_have_many_bytes_and_has_one_at_least() -> None:
    large = '{"type":"Sold","text":"' + "x" * PAGE_BYTES + '"}'
    agenda = agenda_with(*(Entry(position, "A.b", large) for position in (1, 2)))
    first = found_of(agenda, Looking())
    assert (ids(first), first.is_last) == (["event:1/A.b"], False)
    second = found_of(agenda, Looking(names=first.names, at=first.at))
    assert (ids(second), second.is_last) == (["event:2/A.b"], True)


def test_what_stays_is_on_exactly_one_page_and_they_end_whatever_comes_and_goes_meanwhile() -> None:
    chance = random.Random(7)
    for _ in range(300):
        count, limit = chance.randint(1, 30), chance.randint(1, 7)
        agenda = agenda_with(*(timer(f"t{each}") for each in range(count)))
        first = {entry.id for entry in agenda}
        asked, gone, seen, turns = Looking(limit=limit, kind=chance.choice((None, "timer"))), set[str](), [], 0
        while True:
            page = found_of(agenda, asked)
            seen += ids(page)
            turns += 1
            if page.is_last:
                break
            asked = replace(asked, names=page.names, at=page.at)
            for number in range(chance.randint(0, 3 * limit)):
                name = f"t{chance.randrange(40)}"
                match chance.choice(("strike", "set again", "park", "new")):
                    case "strike":
                        agenda.strike(("k", name))
                        gone.add(timer(name).id)
                    case "set again":
                        agenda.enter(timer(name))
                    case "park":
                        agenda.enter(timer(name, error="E"))
                    case "new":
                        agenda.enter(timer(f"n{turns}.{number}"))
        assert turns <= count // limit + 1, "they come to an end though more comes and goes than a page has"
        assert first - gone <= set(seen) <= first
        assert len(seen) == len(set(seen))


def test_what_changes_its_state_between_two_pages_is_shown_only_where_it_is_asked_for() -> None:
    agenda = agenda_with(timer("a"), timer("b"), timer("c"))
    first = found_of(agenda, Looking(parked=False, limit=1))
    agenda.enter(timer("b", error="E"))
    rest = Looking(parked=False, names=first.names, at=first.at)
    assert (ids(first), ids(found_of(agenda, rest))) == (["timer:a@k"], ["timer:c@k"])


def test_a_page_looks_at_so_many_of_those_that_are_gone_and_no_more() -> None:
    agenda = agenda_with(*(timer(f"t{each}") for each in range(5_001)))
    names = found_of(agenda, Looking(limit=1)).names
    for each in range(5_000):
        agenda.strike(("k", f"t{each}"))
    sizes, at = [], 0
    while at < len(names):
        page = found_of(agenda, Looking(names=names, at=at))
        sizes.append((page.at - at, len(page.entries)))
        at = page.at
    assert sizes == [(2_000, 0), (2_000, 0), (1_001, 1)]


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

"""Which pages were begun: where each goes on, and who is forgotten."""

from __future__ import annotations

import re

import pytest

from millstream.engine.application.agenda import PAGINGS_MAX
from millstream.engine.errors import InvalidMessage
from millstream.engine.write.entries import Name
from millstream.engine.write.pages import Pages

NAMES: list[Name] = [("k", "a"), ("k", "b"), ("k", "c")]
FORGOTTEN = re.escape("it is not known any more which entries were to follow")


def test_a_page_goes_on_where_the_one_before_ended_and_can_be_asked_for_again() -> None:
    pages = Pages()
    second = pages.begin(NAMES, 1)
    third = pages.after(second, 2)
    for _ in range(2):  # the reply to the first may have been lost
        assert [pages.find(each) for each in (second, third)] == [(NAMES, 1), (NAMES, 2)]


def test_of_lists_that_are_long_together_the_first_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("millstream.engine.write.pages.PAGINGS_NAMES_MAX", 7)
    pages = Pages()
    first, second, third = (pages.begin(NAMES, 1) for _ in range(3))
    assert [pages.find(each) for each in (second, third)] == [(NAMES, 1)] * 2
    with pytest.raises(InvalidMessage, match=FORGOTTEN):
        pages.find(first)
    long = pages.begin(NAMES * 9, 1)
    assert pages.find(long)[1] == 1, "one list may have more"


def test_of_many_lookers_those_are_forgotten_that_have_not_come_back_for_longest() -> None:
    pages = Pages()
    stays, goes = pages.begin(NAMES, 1), pages.begin(NAMES, 2)
    for _ in range(PAGINGS_MAX - 1):
        assert pages.find(stays) == (NAMES, 1)
        pages.begin(NAMES, 3)
    assert pages.find(stays) == (NAMES, 1)
    with pytest.raises(InvalidMessage, match=FORGOTTEN):
        pages.find(goes)


def test_pages_of_another_engine_are_not_taken_for_own_ones() -> None:
    after = Pages().begin(NAMES, 1)
    other = Pages()
    other.begin([("k", "z")], 1)
    with pytest.raises(InvalidMessage, match=FORGOTTEN):
        other.find(after)


@pytest.mark.parametrize("after", ["", "1", "1.2", "0000000g.1.1", "00000000.-1.0", "00000000.1.x", "00000000.1.1\n"])
def test_a_page_begins_where_another_has_said_and_nowhere_else(after: str) -> None:
    with pytest.raises(InvalidMessage, match="`after` is what the page before it has as `next`"):
        Pages().find(after)

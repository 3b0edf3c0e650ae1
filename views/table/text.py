"""Full text: the words of some fields, and the rows that have them, by whole words and by how a word begins.

Here: words, and an ordered index of (word, key). Not here: rows (`view`).

A word is a run of letters and digits, in lower case, without accents. Looked at are the rows with the rarest of
the words that are asked for; whether a row has the others, by its own words.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Any

from millstream.views.table.ordered import LAST, Entry, Stretch, count_within, new_sorted

__all__ = ["TextIndex", "words_of"]

_WORD = re.compile(r"[^\W_]+")
#: Above every letter, and none itself.
_BEYOND = "\U0010ffff"


def words_of(text: str) -> list[str]:
    """The words of a text, in order."""
    if not text.isascii():
        parts = unicodedata.normalize("NFKD", text)
        text = "".join(each for each in parts if not unicodedata.combining(each))
    return _WORD.findall(text.casefold())


class TextIndex:
    """The index over all text fields of a table.

    Args:
        fields: which they are.
        key: the field that is the key.
    """

    __slots__ = ("_key_of", "_texts_of", "entries")

    def __init__(self, fields: tuple[str, ...], key: str) -> None:
        self.entries = new_sorted()
        self._texts_of = [attrgetter(name) for name in fields]
        self._key_of = attrgetter(key)

    def entries_of(self, row: Any) -> set[Entry]:
        """A row's entries: one for each of its words."""
        key = self._key_of(row)
        return {(word, key) for word in self._words(row)}

    def is_same(self, one: Any, other: Any) -> bool:
        """Whether two rows have the same texts."""
        return all(get(one) == get(other) for get in self._texts_of)

    def search(self, text: str, row_of: Callable[[Any], Any]) -> Iterator[Any]:
        """The rows that have all words of a text, of which the last may be the beginning of one; each once.

        Args:
            text: what is asked for. Without any word in it nothing is found.
            row_of: the row with a key.
        """
        *whole, beginning = words_of(text) or [""]
        if not beginning:
            return
        stretches = [Stretch((word,), (word, LAST)) for word in whole]
        stretches.append(Stretch((beginning,), (beginning + _BEYOND,)))
        rarest = min(stretches, key=lambda each: count_within(self.entries, each))
        seen = set()
        for _, key in self.entries.irange(*rarest, (True, False), False):
            if key in seen:
                continue
            seen.add(key)
            row = row_of(key)
            words = self._words(row)
            if words.issuperset(whole) and any(word.startswith(beginning) for word in words):
                yield row

    def _words(self, row: Any) -> set[str]:
        return {word for get in self._texts_of if (text := get(row)) is not None for word in words_of(text)}

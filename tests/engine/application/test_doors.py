"""Values that would not come back as what they are, told from those that do."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, nan
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.engine.application.doors import NESTING_MAX, is_deeper, is_finite, non_finite_in, shallow
from millstream.engine.application.validation import list_reader, reader, writer

TEXTS = st.text(st.sampled_from('ab"\\[]{}é\n'), max_size=6)
TREES: st.SearchStrategy[Any] = st.recursive(
    st.none() | TEXTS | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=12,
)


def depth_of(value: Any) -> int:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inside is None else 1 + max(map(depth_of, inside), default=0)


@given(TREES, st.integers(0, 8))
def test_the_depth_of_any_json_is_that_of_its_value_whatever_its_texts_hold(tree: Any, limit: int) -> None:
    assert is_deeper(msgspec.json.encode(tree), limit) == (depth_of(tree) > limit)


def nested(depth: int) -> Any:
    value: Any = 1
    for index in range(depth):
        value = {"a": value} if index % 2 else [value]
    return value


def test_the_limit_itself_passes_and_one_more_does_not() -> None:
    read = reader(Any)
    assert read(msgspec.json.encode(nested(NESTING_MAX))) == nested(NESTING_MAX)
    with pytest.raises(msgspec.ValidationError, match=f"nested more than {NESTING_MAX} deep in it"):
        read(msgspec.json.encode(nested(NESTING_MAX + 1)))


@pytest.mark.parametrize("depth", [NESTING_MAX + 1, 900, 970, 982, 2_000, 100_000])
def test_any_depth_beyond_the_limit_is_refused_by_the_same_words(depth: int) -> None:
    with pytest.raises(msgspec.ValidationError, match=f"nested more than {NESTING_MAX} deep in it"):
        reader(Any)(b"[" * depth + b"]" * depth)


def test_what_is_no_json_is_said_to_be_none_at_once_however_it_is_made() -> None:
    for data in (b"[" * 100, b'["' + b'\\"' * 500_000, b'"' * 1_000_001):
        with pytest.raises(msgspec.DecodeError, match=r"truncated|malformed"):
            reader(Any)(data)


class Line(msgspec.Struct, tag=True):
    what: Any


def test_the_array_around_messages_does_not_count() -> None:
    line = Line(nested(NESTING_MAX - 1))
    assert list_reader((Line,))(msgspec.json.encode([line, line])) == [line, line]
    with pytest.raises(msgspec.ValidationError):
        list_reader((Line,))(msgspec.json.encode([Line(nested(NESTING_MAX))]))


class Flat(msgspec.Struct):
    size: float


class Maybe(msgspec.Struct):
    size: float | None


@dataclass
class Plain:
    sizes: list[Maybe]


def test_a_type_that_can_hide_nothing_is_read_and_written_without_a_look() -> None:
    assert writer((Flat,)) is writer((msgspec.Struct,))
    assert writer((Flat, Maybe)) is not writer((Flat,))
    assert type(reader(Flat)).__name__ == "builtin_function_or_method"
    assert shallow(len) is not len


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (nan, "$"),
        (Maybe(inf), "$.size"),
        ({"a": [1, -inf]}, "$['a'][1]"),
        ([{"b": Plain([Maybe(1.0), Maybe(nan)])}], "$[0]['b'].sizes[1].size"),
        ((1, {nan}), "$[1][...]"),
        (b"abc", None),
        ({"a": None, "b": [1.5, True, "nan"]}, None),
    ],
)
def test_a_nan_is_found_wherever_it_stands(value: Any, path: str | None) -> None:
    assert is_finite(value) is (path is None)
    found = non_finite_in(value, "$")
    assert (found and found[0]) == path


def test_a_nan_that_would_be_read_back_as_none_is_refused_by_its_name_and_place() -> None:
    with pytest.raises(msgspec.ValidationError, match=r"it holds the float nan.* say None.*at `\$\.size`"):
        writer((Maybe,))([Maybe(None), Maybe(nan)])
    assert writer((Maybe,))([Maybe(None), Maybe(1.5)]) == b'[{"size":null},{"size":1.5}]'

"""Fields that hold data of persons: marked, and nothing else yet."""

from __future__ import annotations

from typing import Annotated

import msgspec
import pytest

from millstream.engine import KEY, PERSONAL, DefinitionError, Event, Key, Personal
from millstream.engine.application.exact import exact_or_reason
from millstream.engine.application.methods import key_field


class Address(msgspec.Struct, frozen=True):
    street: str


class Moved(Event):
    customer: Key
    name: Personal[str]
    address: Personal[Address | None] = None
    note: Annotated[str, PERSONAL, msgspec.Meta(max_length=3)] = ""


def test_a_personal_field_is_what_its_type_says_in_json_and_back() -> None:
    moved = Moved("c-1", "Ann", Address("Mill Lane"))
    data = msgspec.json.encode(moved)
    assert data == b'{"type":"Moved","customer":"c-1","name":"Ann","address":{"street":"Mill Lane"},"note":""}'
    assert msgspec.json.decode(data, type=Moved) == moved
    with pytest.raises(msgspec.ValidationError, match="length <= 3"):
        msgspec.json.decode(data.replace(b'"note":""', b'"note":"long"'), type=Moved)
    assert not isinstance(exact_or_reason(Moved, "customer"), str)
    assert key_field(Moved) == "customer"


class Named(Event):
    name: Personal[Key]


class Called(Event):
    name: Annotated[str, KEY, PERSONAL]


@pytest.mark.parametrize("event", [Named, Called])
def test_a_key_can_t_be_personal(event: type[Event]) -> None:
    with pytest.raises(DefinitionError, match="field 'name' can't be Personal: give the person a number of your own"):
        key_field(event)

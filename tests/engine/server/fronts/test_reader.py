from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from millstream.engine.server.fronts.reader import FrontReader, Passing, passing_classes
from millstream.engine.server.tokens import MAY
from millstream.engine.wire import Malformed, Requests, Unread
from millstream.engine.wire.errors import error_object
from tests.engine.server.caller import ADD, STOCK, request
from tests.shop import shop

requests = Requests(shop, 3)
reader = FrontReader(requests, passing_classes(requests.types.keys() - {"authenticate"}))
STRANGER = requests.only(MAY[None])

plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
json_values = st.recursive(plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner))
messages = st.sampled_from([ADD, STOCK, {"type": "Add"}, {**ADD, "count": 0}, [ADD], [ADD, 1], [ADD, ADD]])
nearly = st.fixed_dictionaries(
    {"jsonrpc": st.sampled_from(["2.0", "2.0", "2.0", "2"])},
    optional={
        "method": st.sampled_from([*requests.types, "x"]),
        "id": json_values,
        "params": st.dictionaries(
            st.sampled_from(["command", "commands", "query", "after", "timeout", "watch", "token", "metadata"]),
            messages | json_values,
            max_size=3,
        ),
    },
)
lines = st.one_of(
    st.binary(max_size=40),
    nearly.map(lambda value: json.dumps(value).encode()),
    st.lists(nearly | json_values, max_size=4).map(lambda value: json.dumps(value).encode()),
)


def as_read_there(found: Any) -> Any:
    """What the writer's process makes of what was passed on; of the rest, what is told."""
    if isinstance(found, list):
        return [as_read_there(each) for each in found]
    if isinstance(found, Malformed):
        told = error_object(found.error)
        return found.id, told.code, told.message, told.data
    if isinstance(found, Passing):
        method = type(found).__name__.encode()
        there = requests.read(b'{"jsonrpc":"2.0","method":"%b","id":7,"params":%b}' % (method, bytes(found.params)))
        assert there.id == 7
        return found.id, type(there), msgspec.to_builtins(there.params)
    if isinstance(found, Unread) or found is None:
        return found
    return found.id, type(found), msgspec.to_builtins(found.params)


@given(lines)
def test_a_front_refuses_what_its_server_would_and_passes_the_rest_on_as_it_is(line: bytes) -> None:
    assert as_read_there(reader.read(line)) == as_read_there(requests.read(line))


@given(st.lists(lines, max_size=4))
def test_lines_are_read_together_where_they_can_be_and_alike(some: list[bytes]) -> None:
    data = b"".join(line + b"\n" for line in some)
    kept, found = reader.read_lines(data), requests.read_lines(data)
    assert (kept is None) == (found is None)
    assert kept is None or as_read_there(kept) == as_read_there(found)


@given(lines)
def test_a_stranger_is_told_no_more_by_a_front(line: bytes) -> None:
    strangers = FrontReader(STRANGER, passing_classes({"health"}))
    assert as_read_there(strangers.read(line)) == as_read_there(STRANGER.read(line))


def test_lines_of_good_requests_are_passed_on_as_they_came() -> None:
    data = b"".join(
        [
            request("execute", {"command": ADD}, 1),
            b"[" + request("ask", {"query": STOCK}, "x").strip() + b"," + request("health").strip() + b"]\n",
            b'{"jsonrpc":"2.0","method":"ask","params":{ "query": {"type":"StockOf", "item":"\\u00e4"} },"id":null}\n',
        ]
    )
    found = reader.read_lines(data)
    assert found is not None
    one, (two, three), four = found
    assert bytes(one.params) == json.dumps({"command": ADD}).encode()
    assert (type(two).__name__, two.id, type(three).__name__, bytes(three.params)) == ("ask", "x", "health", b"{}")
    assert (four.id, bytes(four.params)) == (None, b'{ "query": {"type":"StockOf", "item":"\\u00e4"} }')


def test_several_commands_count_as_many() -> None:
    line = request("execute_many", {"commands": [ADD, ADD]}).strip()
    assert (reader.read(line).requests, reader.read(request("health").strip()).requests) == (2, 1)

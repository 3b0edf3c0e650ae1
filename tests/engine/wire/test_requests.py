from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from millstream.engine import App, Command, Event, Key, Metadata, MillstreamError
from millstream.engine.wire import Lines, Malformed, Requests, error_object
from millstream.engine.wire.requests import params_of
from millstream.handlers import WriteModel, applies, handles
from tests.shop import Add, Everything, Note, StockOf, shop

BATCH_MAX = 3
requests = Requests(shop, BATCH_MAX)


def read(line: bytes) -> Any:
    """What comes of a line, as plain values: method, id and params, or the code and the text of what is wrong."""
    return _plain(requests.read(line))


def _plain(found: Any) -> Any:
    if found is None:
        return None
    if isinstance(found, list):
        return [_plain(each) for each in found]
    heard = "nobody" if found.id is UNSET else found.id
    if isinstance(found, Malformed):
        told = error_object(found.error)
        return heard, told.code, told.message
    return heard, type(found).__name__, msgspec.to_builtins(found.params)


def line(method: Any = "ask", params: Any = UNSET, **more: Any) -> bytes:
    request = {"jsonrpc": "2.0", "method": method, **more}
    return json.dumps(request if params is UNSET else {**request, "params": params}).encode()


ADD = {"type": "Add", "item": "a", "count": 3}
STOCK = {"type": "StockOf", "item": "a"}
EXECUTE = {
    "command": ADD,
    "command_id": None,
    "expected_version": None,
    "metadata": None,
    "timeout": None,
    "wait": True,
}
MANY: dict[str, Any] = {"commands": [], "command_ids": None, "metadata": None, "timeout": None}
ASK = {"query": STOCK, "after": 0, "timeout": None, "incomplete": False, "at": None}

#: Lines, and the requests that they are.
GOOD: tuple[tuple[bytes, Any], ...] = (
    (line("execute", {"command": ADD}, id=1), (1, "execute", EXECUTE)),
    (line("execute", {"command": ADD}, id="a"), ("a", "execute", EXECUTE)),
    (line("execute", {"command": ADD}, id=None), (None, "execute", EXECUTE)),
    (line("execute", {"command": ADD}, id=1.5), (1.5, "execute", EXECUTE)),
    (line("execute", {"command": ADD}, id=-(2**63)), (-(2**63), "execute", EXECUTE)),
    (line("execute", {"command": ADD}), ("nobody", "execute", EXECUTE)),
    (
        line(
            "execute",
            {
                "command": ADD,
                "command_id": "i",
                "expected_version": 4,
                "metadata": {"actor": "ann"},
                "timeout": 2,
                "wait": False,
            },
            id=1,
        ),
        (
            1,
            "execute",
            {
                "command": ADD,
                "command_id": "i",
                "expected_version": 4,
                "metadata": {"actor": "ann"},
                "timeout": 2.0,
                "wait": False,
            },
        ),
    ),
    (line("execute_many", {"commands": [ADD, ADD]}, id=1), (1, "execute_many", {**MANY, "commands": [ADD, ADD]})),
    (line("execute_many", {"commands": []}), ("nobody", "execute_many", MANY)),
    (
        line(
            "execute_many",
            {"commands": [ADD], "command_ids": ["i"], "metadata": {"actor": "ann"}, "timeout": 2},
            id=1,
        ),
        (
            1,
            "execute_many",
            {"commands": [ADD], "command_ids": ["i"], "metadata": {"actor": "ann"}, "timeout": 2.0},
        ),
    ),
    (
        b"[" + line("execute_many", {"commands": [ADD, ADD]}, id=1) + b"," + line("health", id=2) + b"]",
        [(1, "execute_many", {**MANY, "commands": [ADD, ADD]}), (2, "health", {})],
    ),
    (line("ask", {"query": STOCK}, id=1), (1, "ask", ASK)),
    (
        line("ask", {"query": STOCK, "after": 7, "timeout": 0.5, "incomplete": True}, id=1),
        (1, "ask", {"query": STOCK, "after": 7, "timeout": 0.5, "incomplete": True, "at": None}),
    ),
    (
        line("watch", {"query": STOCK, "every": True}, id=1),
        (1, "watch", {"query": STOCK, "after": 0, "every": True, "incomplete": False, "rows": False}),
    ),
    (line("unwatch", {"watch": 3}, id=1), (1, "unwatch", {"watch": 3})),
    (line("follow", id=1), (1, "follow", {"after": 0, "keys": None, "types": None, "today": False})),
    (line("follow", {}, id=1), (1, "follow", {"after": 0, "keys": None, "types": None, "today": False})),
    (
        line("follow", {"after": 4, "keys": ["a"], "types": ["Added"]}, id=1),
        (1, "follow", {"after": 4, "keys": ["a"], "types": ["Added"], "today": False}),
    ),
    (line("describe", id=1), (1, "describe", {})),
    (line("rpc.discover", id=1), (1, "rpc.discover", {})),
    (line("health", {}, id=1), (1, "health", {})),
    (line("stats", id=1), (1, "stats", {})),
    (line("authenticate", {"token": "t"}, id=1), (1, "authenticate", {"token": "t"})),
    (b'  {"method":"health" , "id":1,"jsonrpc":"2.0"}\r', (1, "health", {})),
    (b'{"id":1,"jsonrpc":"2.0","method":"he\\u0061lth"}', (1, "health", {})),
    (b"[" + line("health", id=1) + b"]", [(1, "health", {})]),
    (b" [" + line("health", id=1) + b" , " + line("health") + b"]\r", [(1, "health", {}), ("nobody", "health", {})]),
    (b"", None),
    (b" \r\t", None),
)

PARSE, INVALID, NO_METHOD, PARAMS = -32700, -32600, -32601, -32602
METHODS = "execute, execute_many, ask, ask_all, watch, unwatch, follow, agenda, settle, describe, rpc.discover, health, stats, authenticate"
ID = "an id is a string, or a number of at most 64 bits"

#: Lines that are no requests: who hears it, the code, and what is said. The first are those of the specification.
BAD: tuple[tuple[bytes, Any], ...] = (
    (
        line("foobar", id="1"),
        ("1", NO_METHOD, f"there is no method 'foobar'; there are: {METHODS}"),
    ),
    (
        b'{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]',
        (None, PARSE, "this is no JSON in UTF-8 on one line: JSON is malformed: expected ',' or '}' (byte 39)"),
    ),
    (
        b'{"jsonrpc": "2.0", "method": 1, "params": "bar"}',
        (None, INVALID, 'the field "method" names the method'),
    ),
    (
        b'[{"jsonrpc": "2.0", "method": "health", "id": "1"}, {"jsonrpc": "2.0", "method"',
        (None, PARSE, "this is no JSON in UTF-8 on one line: Input data was truncated"),
    ),
    (b"[]", (None, INVALID, "a batch has at least one request")),
    (b"[1]", [(None, INVALID, "a request is an object")]),
    (b"[1,2,3]", [(None, INVALID, "a request is an object")] * 3),
    (b"[1,2,3,4]", (None, INVALID, "a batch has at most in_flight_max=3 requests")),
    (b"[" + b",".join([line("health")] * 4) + b"]", (None, INVALID, "a batch has at most in_flight_max=3 requests")),
    (
        b"[" + line("health", id=1) + b",[" + line("health", id=2) + b"],{}]",
        [
            (1, "health", {}),
            (None, INVALID, "a request is an object"),
            (None, INVALID, 'the field "jsonrpc" says "2.0"'),
        ],
    ),
    (b"1", (None, INVALID, "a request is an object")),
    (b"null", (None, INVALID, "a request is an object")),
    (b'"health"', (None, INVALID, "a request is an object")),
    (b"{}", (None, INVALID, 'the field "jsonrpc" says "2.0"')),
    (b'{"jsonrpc":"1.0","method":"health","id":1}', (1, INVALID, 'the field "jsonrpc" says "2.0"')),
    (b'{"jsonrpc":2.0,"method":"health","id":1}', (1, INVALID, 'the field "jsonrpc" says "2.0"')),
    (b'{"jsonrpc":"2.0","id":1}', (1, INVALID, 'the field "method" names the method')),
    (line("health", id=True), (None, INVALID, ID)),
    (line("health", id=[1]), (None, INVALID, ID)),
    (line("health", id={}), (None, INVALID, ID)),
    (line("health", id=2**63), (None, INVALID, ID)),
    (line("health", id=10**4_000), (None, INVALID, ID)),
    (line("health", id=1, extra=2), (1, INVALID, "a request has no field 'extra'")),
    (line("health", **{"x" * 100: 2}), (None, INVALID, f"a request has no field {'x' * 80!r}")),
    (line("y" * 100), ("nobody", NO_METHOD, f"there is no method {'y' * 80!r}; there are: {METHODS}")),
    (line("execute", id=1), (1, PARAMS, "method 'execute' needs params")),
    (line("execute", None, id=1), (1, PARAMS, "params are given by name: an object")),
    (line("execute", [ADD], id=1), (1, PARAMS, "params are given by name: an object")),
    (line("execute", {}, id=1), (1, PARAMS, "params of 'execute': Object missing required field `command`")),
    (
        line("execute", {"command": 1}, id=1),
        (1, PARAMS, "params of 'execute': Expected `object`, got `int` - at `$.command`"),
    ),
    (
        line("execute", {"command": ADD, "x": 1}, id=1),
        (1, PARAMS, "params of 'execute': Object contains unknown field `x`"),
    ),
    (
        line("execute", {"command": ADD, "timeout": -1}, id=1),
        (1, PARAMS, "params of 'execute': Expected `float` >= 0.0 - at `$.timeout`"),
    ),
    (
        line("execute", {"command": ADD, "expected_version": -1}, id=1),
        (1, PARAMS, "params of 'execute': Expected `int` >= 0 - at `$.expected_version`"),
    ),
    (
        line("execute", {"command": ADD, "wait": 1}, id=1),
        (1, PARAMS, "params of 'execute': Expected `bool`, got `int` - at `$.wait`"),
    ),
    (
        line("execute", {"command": ADD, "metadata": {"actor": 3}}, id=1),
        (1, PARAMS, "params of 'execute': Expected `str | null`, got `int` - at `$.metadata.actor`"),
    ),
    (
        line("execute_many", {}, id=1),
        (1, PARAMS, "params of 'execute_many': Object missing required field `commands`"),
    ),
    (
        line("execute_many", {"commands": ADD}, id=1),
        (1, PARAMS, "params of 'execute_many': Expected `array`, got `object` - at `$.commands`"),
    ),
    (
        line("execute_many", {"commands": [1], "command_ids": "ab"}, id=1),
        (1, PARAMS, "params of 'execute_many': Expected `array | null`, got `str` - at `$.command_ids`"),
    ),
    (
        line("execute_many", {"commands": [1], "wait": True}, id=1),
        (1, PARAMS, "params of 'execute_many': Object contains unknown field `wait`"),
    ),
    (
        line("execute_many", {"commands": [1, 2, 3, 4]}, id=1),
        (1, PARAMS, "params of 'execute_many': at most in_flight_max=3 commands in one request, not 4: split it"),
    ),
    (
        b"[" + line("execute_many", {"commands": [ADD] * 3}, id=1) + b"," + line("health", id=2) + b"]",
        (None, INVALID, "a batch has at most in_flight_max=3 requests, each command of an 'execute_many' counted"),
    ),
    (
        b"[" + line("execute_many", {"commands": [1] * 3}, id=1) + b"," + line("health", id=2) + b"]",
        (None, INVALID, "a batch has at most in_flight_max=3 requests, each command of an 'execute_many' counted"),
    ),
    (
        line("ask", {"query": STOCK, "after": 2**63}, id=1),
        (1, PARAMS, "params of 'ask': Expected `int` <= 9223372036854775807 - at `$.after`"),
    ),
    (
        line("ask", {"query": STOCK, "after": 1.5}),
        ("nobody", PARAMS, "params of 'ask': Expected `int`, got `float` - at `$.after`"),
    ),
    (
        line("follow", {"keys": "a"}, id=1),
        (1, PARAMS, "params of 'follow': Expected `array | null`, got `str` - at `$.keys`"),
    ),
    (
        line("unwatch", {"watch": "1"}, id=1),
        (1, PARAMS, "params of 'unwatch': Expected `int`, got `str` - at `$.watch`"),
    ),
    (line("health", {"x": 1}, id=1), (1, PARAMS, "params of 'health': Object contains unknown field `x`")),
    (line("authenticate", {}, id=1), (1, PARAMS, "params of 'authenticate': Object missing required field `token`")),
    (
        line("execute", {"command": {**ADD, "type": "Ad"}}, id=1),
        (1, 1003, "application 'shop' has no command 'Ad', but 'Add'; it has: Add, Take, Move, Nothing, Note, Break"),
    ),
    (
        line("execute", {"command": {"item": "a"}}, id=1),
        (
            1,
            1003,
            "application 'shop' has no command 'None', but 'Note'; it has: Add, Take, Move, Nothing, Note, Break",
        ),
    ),
    (
        line("execute", {"command": {"type": []}}, id=1),
        (1, 1003, "application 'shop' has no command '[]'; it has: Add, Take, Move, Nothing, Note, Break"),
    ),
    (
        line("execute", {"command": STOCK}, id=1),
        (1, 1003, "application 'shop' has no command 'StockOf'; it has: Add, Take, Move, Nothing, Note, Break"),
    ),
    (
        line("ask", {"query": ADD}, id=1),
        (1, 1003, "application 'shop' has no query 'Add'; it has: StockOf, Everything, Notes, Broke"),
    ),
    (
        line("execute", {"command": {**ADD, "count": "3"}}, id=1),
        (1, 1002, "Add is not valid: Expected `int`, got `str` - at `$.count`"),
    ),
    (
        line("execute", {"command": {**ADD, "count": 0}, "x": 1}, id=1),
        (1, 1002, "Add is not valid: Expected `int` >= 1 - at `$.count`"),
    ),
    (
        line("execute", {"command": {**ADD, "more": 1}}, id=1),
        (1, 1002, "Add is not valid: Object contains unknown field `more`"),
    ),
    (
        line("ask", {"query": {"type": "StockOf", "item": ""}}),
        ("nobody", 1002, "StockOf is not valid: Expected `str` of length >= 1 - at `$.item`"),
    ),
    (
        b"[" * 5_000,
        (None, PARSE, "this is no JSON that can be read: it is nested too deeply"),
    ),
    (
        b'{"a":' * 5_000,
        (None, PARSE, "this is no JSON that can be read: it is nested too deeply"),
    ),
    (
        b'{"jsonrpc":"2.0","id":1,"method":"execute","params":{"command":' + b"[" * 5_000 + b"]" * 5_000 + b"}}",
        (None, PARSE, "this is no JSON that can be read: it is nested too deeply"),
    ),
)


@pytest.mark.parametrize(("sent", "expected"), [*GOOD, *BAD], ids=range(len(GOOD) + len(BAD)))
def test_a_line_is_a_request_or_says_what_is_wrong_with_it(sent: bytes, expected: Any) -> None:
    assert read(sent) == expected


def test_lines_that_come_byte_by_byte_and_with_others_behind_them_are_the_same_requests() -> None:
    table = [(sent, expected) for sent, expected in (*GOOD, *BAD) if b"\n" not in sent]
    stream, lines = b"".join(sent + b"\n" for sent, _ in table), Lines(100_000)
    found = [read(each) for byte in stream for each in lines.feed(bytes([byte]))]
    assert found == [expected for _, expected in table]


@pytest.mark.parametrize("sent", [sent for sent, _ in GOOD if sent.strip()])
def test_a_request_that_is_cut_anywhere_is_none(sent: bytes) -> None:
    whole = sent.strip()
    for end in range(1, len(whole)):
        found = requests.read(whole[:end])
        assert isinstance(found, Malformed)
        assert found.id is None


@pytest.mark.parametrize("sent", [sent for sent, _ in GOOD if sent.strip()])
def test_a_request_with_something_behind_it_on_its_line_is_none(sent: bytes) -> None:
    for more in (b"x", b"}", b"]", b",", b"{}", b"\0", b"\xff", b" 1"):
        found = requests.read(sent + more)
        assert isinstance(found, Malformed)
        assert error_object(found.error).code == PARSE


@pytest.mark.parametrize("wrong", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\\ud800", b"\\ud800\\u0041", b"\x01", b"\\x"])
@pytest.mark.parametrize("method", ["execute", "ask"])
def test_text_that_is_not_utf_8_is_in_no_request(method: str, wrong: bytes) -> None:
    params = {"execute": {"command": {**ADD, "item": "@"}}, "ask": {"query": {**STOCK, "item": "@"}}}
    found = requests.read(line(method, params[method], id=1).replace(b"@", wrong))
    assert isinstance(found, Malformed)
    assert error_object(found.error).code == PARSE


def test_a_request_holds_the_applications_own_messages() -> None:
    execute = requests.read(line("execute", {"command": ADD, "metadata": {"actor": "ann"}}, id=1))
    assert execute.params.command == Add("a", 3)
    assert execute.params.metadata == Metadata("ann")
    assert requests.read(line("ask", {"query": STOCK}, id=1)).params.query == StockOf("a")
    batch = b"[%b,%b]" % (
        line("execute", {"command": {"type": "Note", "text": "x"}}),
        line("ask", {"query": {"type": "Everything"}}),
    )
    first, second = requests.read(batch)
    assert (first.params.command, second.params.query) == (Note("x"), Everything())


def told(command: Any) -> tuple[int, str]:
    """What is said of one command of several, given as what it is in JSON, or as JSON."""
    sent = command if isinstance(command, bytes) else json.dumps(command).encode()
    found = requests.read(b'{"jsonrpc":"2.0","id":1,"method":"execute_many","params":{"commands":[%b]}}' % sent)
    (raw,) = found.params.commands
    assert type(raw) is msgspec.Raw
    with pytest.raises(MillstreamError) as raised:
        requests.command(bytes(raw), 0)
    error = error_object(raised.value)
    return error.code, error.message


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ({**ADD, "count": 0}, (1002, "Add is not valid: Expected `int` >= 1 - at `$.count`")),
        ({**ADD, "more": 1}, (1002, "Add is not valid: Object contains unknown field `more`")),
        (STOCK, (1003, "application 'shop' has no command 'StockOf'; it has: Add, Take, Move, Nothing, Note, Break")),
        (
            {},
            (
                1003,
                "application 'shop' has no command 'None', but 'Note'; it has: Add, Take, Move, Nothing, Note, Break",
            ),
        ),
        (7, (PARAMS, "a command is an object, not int: `$.commands[0]`")),
        (None, (PARAMS, "a command is an object, not null: `$.commands[0]`")),
        ([ADD], (PARAMS, "a command is an object, not list: `$.commands[0]`")),
    ],
)
def test_one_command_of_several_that_is_none_is_told_what_it_would_be_told_alone(command: Any, expected: Any) -> None:
    assert told(command) == expected
    if isinstance(command, dict):
        alone = requests.read(line("execute", {"command": command}, id=1))
        assert (error_object(alone.error).code, error_object(alone.error).message) == expected


def test_a_key_with_a_nul_is_in_no_command_of_several() -> None:
    command = b'{"type":"Add","item":"\\u0000","count":1}'
    alone = requests.read(b'{"jsonrpc":"2.0","id":1,"method":"execute","params":{"command":%b}}' % command)
    assert told(command) == (1002, str(alone.error))


def test_good_commands_beside_one_that_is_none_are_what_they_are() -> None:
    found = requests.read(line("execute_many", {"commands": [ADD, 1], "command_ids": ["a", "b"], "timeout": 3}, id=9))
    assert type(found).__name__ == "execute_many"
    assert (found.id, found.params.command_ids, found.params.timeout) == (9, ["a", "b"], 3.0)
    assert requests.command(bytes(found.params.commands[0]), 0) == Add("a", 3)


def test_the_class_of_a_request_tells_its_method() -> None:
    assert list(requests.types) == METHODS.split(", ")
    assert type(requests.read(line("rpc.discover", id=1))) is requests.types["rpc.discover"]
    assert list(params_of(shop)) == METHODS.split(", ")


def test_a_token_shows_in_no_look_at_its_request() -> None:
    secret = "a-token-that-nobody-sees"
    request = requests.read(line("authenticate", {"token": secret}, id=1))
    assert request.params.token == secret
    assert secret not in f"{request!r} {request.params!s} {[request]}"
    for params in ({"token": secret, "x": 1}, {"token": [secret]}, secret):
        found = requests.read(line("authenticate", params, id=1))
        assert isinstance(found, Malformed)
        assert secret not in f"{found!r} {error_object(found.error)}"


# Applications of other shapes.


class Tick(Command, tag=7):
    """Its tag is a number."""


class Ticked(Event):
    pass


class Strict(Command):
    key: Key
    low: int
    high: int

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError("low is above high")
        if self.low < 0:
            raise ZeroDivisionError("a bug")


class Clock(WriteModel):
    @handles
    def tick(self, command: Tick) -> Iterator[Event]:
        yield Ticked()

    @handles
    def strict(self, command: Strict) -> Iterator[Event]:
        yield Ticked()

    @applies
    def ticked(self, event: Ticked) -> None: ...


def test_what_an_application_checks_itself_is_its_messages_fault() -> None:
    strict = Requests(App(models=[OnlyStrict]), 3)
    for low, problem in ((4, "low is above high"), (-1, "a bug")):
        command = {"type": "Strict", "key": "a", "low": low, "high": 3}
        found = strict.read(line("execute", {"command": command}, id=1))
        assert isinstance(found, Malformed)
        assert str(found.error) == f"Strict is not valid: {problem}"


class OnlyStrict(WriteModel):
    @handles
    def strict(self, command: Strict) -> Iterator[Event]:
        yield Ticked()

    @applies
    def ticked(self, event: Ticked) -> None: ...


class OnlyTick(WriteModel):
    @handles
    def tick(self, command: Tick) -> Iterator[Event]:
        yield Ticked()

    @applies
    def ticked(self, event: Ticked) -> None: ...


def test_a_tag_may_be_a_number_and_an_application_may_answer_nothing() -> None:
    ticking = Requests(App(models=[OnlyTick]), 3)
    assert ticking.read(line("execute", {"command": {"type": 7}}, id=1)).params.command == Tick()
    for tag, told in ((8, "8"), ("7", "7"), (True, "True")):
        found = ticking.read(line("execute", {"command": {"type": tag}}, id=1))
        assert str(found.error) == f"application 'OnlyTick' has no command {told!r}; it has: 7"
    for query in ({}, {"type": ""}, {"type": "StockOf"}):
        assert "has no query" in str(ticking.read(line("ask", {"query": query}, id=1)).error)


def test_readers_of_one_application_share_its_classes_and_do_not_keep_it_alive() -> None:
    app = App(models=[OnlyTick])
    assert Requests(app, 3).types is Requests(app, 5).types
    assert Requests(app, 3).types is not Requests(App(models=[OnlyTick]), 3).types
    gone = weakref.ref(app)
    del app
    gc.collect()
    assert gone() is None


# Anything at all.

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
names = st.sampled_from(["jsonrpc", "method", "params", "id", "command", "query", "type", "after", "x"])
nearly = st.fixed_dictionaries(
    {"jsonrpc": st.sampled_from(["2.0", "2", 2])},
    optional={
        "method": st.sampled_from([*METHODS.split(", "), "x", 1]),
        "id": json_values,
        "params": st.dictionaries(
            st.sampled_from(["command", "commands", "query", "after", "timeout", "watch", "token", "x"]),
            json_values | st.sampled_from([ADD, STOCK, {"type": "Add"}, [ADD], [ADD, 1]]),
            max_size=4,
        )
        | json_values,
        "x": json_values,
    },
)
lines = st.one_of(
    st.binary(max_size=60),
    json_values.map(lambda value: json.dumps(value).encode()),
    nearly.map(lambda value: json.dumps(value).encode()),
    st.lists(nearly | json_values, max_size=4).map(lambda value: json.dumps(value).encode()),
)


def each_of(found: Any) -> Iterable[Any]:
    return found if isinstance(found, list) else [found]


@given(lines)
def test_any_bytes_are_requests_or_malformed_and_whoever_hears_it_can_be_told(sent: bytes) -> None:
    found = requests.read(sent)
    if found is None:
        assert not sent.strip()
        return
    for each in each_of(found):
        told = None if each.id is UNSET else each.id
        if isinstance(each, Malformed):
            assert error_object(each.error).code in (PARSE, INVALID, NO_METHOD, PARAMS, 1002, 1003)
        else:
            assert type(each) is requests.types[type(each).__name__]
        assert json.loads(msgspec.json.encode(told)) == told


@given(st.lists(nearly, min_size=1, max_size=BATCH_MAX))
def test_a_batch_is_what_its_requests_are_alone(batch: list[Any]) -> None:
    assert read(json.dumps(batch).encode()) == [read(json.dumps(each).encode()) for each in batch]


# Several lines at once: as strict as one by one.


class Point(msgspec.Struct, frozen=True):
    x: int = 0


class Draw(Command):
    """Objects in an array in an object: what a cut in two might still be read as."""

    name: Key
    points: tuple[Point, ...]
    text: str = ""


class Drawn(Event):
    name: Key


class Board(WriteModel):
    @handles
    def draw(self, command: Draw) -> Iterator[Event]:
        yield Drawn(command.name)

    @applies
    def drawn(self, event: Drawn) -> None: ...


drawing = Requests(App(models=[Board], views=[], name="drawing"), BATCH_MAX)
_POINTS = {"type": "Draw", "name": "a", "points": [{"x": 1}, {"x": 2}, {}], "text": "}{"}
DRAW = line("execute", {"command": _POINTS}, id=1).replace(b", ", b",")


def one_by_one(reader: Requests, data: bytes) -> list[Any]:
    """The requests in some lines, each read by itself; None in the place of what is no good request or batch."""
    return [_good(reader.read(each)) for each in data.split(b"\n")[:-1]]


def _good(found: Any) -> Any:
    if isinstance(found, list):
        good = [_good(each) for each in found]
        return None if None in good else good
    return None if found is None or isinstance(found, Malformed) else (type(found), _plain(found))


def at_once(reader: Requests, data: bytes) -> list[Any] | None:
    """The same, read at once."""
    found = reader.read_lines(data)
    return None if found is None else [_good(each) for each in found]


@pytest.mark.parametrize("reader_and_line", [(drawing, DRAW), (requests, line("ask", {"query": STOCK}, id=2))])
def test_good_lines_are_read_at_once(reader_and_line: tuple[Requests, bytes]) -> None:
    reader, good = reader_and_line
    for count in (1, 2, 5):
        data = (good + b"\n") * count
        found = at_once(reader, data)
        assert found is not None
        assert len(found) == count
        assert found == one_by_one(reader, data)


def batch_of(*lines: bytes) -> bytes:
    return b"[" + b",".join(lines) + b"]"


HEALTH = b'{"jsonrpc":"2.0","id":7,"method":"health"}'
TWO = batch_of(DRAW, HEALTH)


@pytest.mark.parametrize(
    "data",
    [
        [TWO],
        [TWO, TWO],
        [TWO, DRAW, TWO],
        [DRAW, TWO],
        [TWO, DRAW],
        [batch_of(DRAW)],
        [batch_of(HEALTH, HEALTH, HEALTH), HEALTH, HEALTH],
        [batch_of(b'{"jsonrpc":"2.0","id":1,"method":"execute_many","params":{"commands":[]}}', HEALTH, HEALTH)],
    ],
)
def test_good_batches_are_read_at_once_beside_other_lines(data: list[bytes]) -> None:
    joined = b"".join(each + b"\n" for each in data)
    found = at_once(drawing, joined)
    assert found is not None
    assert len(found) == len(data)
    assert found == one_by_one(drawing, joined)


@pytest.mark.parametrize(
    "line",
    [
        b"[]",
        batch_of(HEALTH, HEALTH, HEALTH, HEALTH),
        batch_of(HEALTH, batch_of(HEALTH)),
        batch_of(HEALTH, b"1"),
        batch_of(HEALTH) + b" ",
        batch_of(HEALTH) + batch_of(HEALTH),
        HEALTH + batch_of(HEALTH),
        TWO + b",",
        batch_of(DRAW.replace(b'"name": "a"', b'"name": "\\u0000"')),
    ],
)
def test_a_batch_that_is_none_is_looked_at_by_itself(line: bytes) -> None:
    for data in (line + b"\n", line + b"\n" + TWO + b"\n", TWO + b"\n" + line + b"\n", HEALTH + b"\n" + line + b"\n"):
        assert drawing.read_lines(data) is None


def test_a_batch_that_is_cut_in_two_and_two_lines_that_are_one_never_cancel_each_other_out() -> None:
    for joined in (TWO + TWO, TWO + b" " + DRAW, HEALTH + TWO):
        for at in range(len(TWO) + 1):
            broken = TWO[:at] + b"\n" + TWO[at:] + b"\n"
            for data in (broken + joined + b"\n", joined + b"\n" + broken):
                assert drawing.read_lines(data) is None
    cut = TWO.index(b"},{") + 1
    without_comma = TWO[:cut] + b"\n" + TWO[cut + 1 :] + b"\n"
    assert drawing.read_lines(TWO + TWO + b"\n" + without_comma) is None


@pytest.mark.parametrize("joint", [b"", b" ", b",", b"\r", b"\t", b"\x00", b"\n\n", b" \n", b"\r\n"])
def test_a_line_that_is_cut_in_two_and_two_that_are_one_never_cancel_each_other_out(joint: bytes) -> None:
    joined = DRAW + joint + DRAW + b"\n"
    assert drawing.read_lines(joined) is None
    for at in range(len(DRAW) + 1):
        for cut in (b"\n", b"\r\n", b"\n\n"):
            broken = DRAW[:at] + cut + DRAW[at:] + b"\n"
            for data in (broken, broken + joined, joined + broken, broken + DRAW + b"\n" + joined):
                assert drawing.read_lines(data) is None


def test_two_requests_on_one_line_are_not_taken_for_two_lines() -> None:
    cut = DRAW.index(b"},{") + 1
    broken = DRAW[:cut] + b"\n" + DRAW[cut + 1 :]  # without its comma
    assert drawing.read_lines(DRAW + DRAW + b"\n" + broken + b"\n") is None
    assert drawing.read_lines(DRAW + DRAW + b"\n") is None


@given(
    st.lists(
        st.sampled_from(
            [
                DRAW,
                DRAW[:40],
                DRAW[40:],
                TWO,
                TWO[:50],
                TWO[50:],
                b"\n",
                b"\n",
                b"\r\n",
                b" ",
                b",",
                b"{",
                b"}",
                b"}\n{",
                b"]\n[",
                b"}\n[",
                b"]\n{",
                b"[",
                b"]",
                b"null",
                b"\\u0000",
            ]
        ),
        max_size=12,
    )
)
def test_whatever_comes_is_read_at_once_as_it_is_read_line_by_line(pieces: list[bytes]) -> None:
    data = b"".join(pieces) + b"\n"
    assert at_once(drawing, data) in (None, one_by_one(drawing, data))


def test_a_key_with_a_nul_is_not_taken_with_others() -> None:
    bad = DRAW.replace(b'"name": "a"', b'"name": "a\\u0000"')
    assert bad != DRAW
    assert drawing.read_lines(DRAW + b"\n" + bad + b"\n") is None
    assert isinstance(drawing.read(bad), Malformed)

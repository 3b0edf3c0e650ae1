from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.engine import UnreadableEvent, errors
from millstream.engine.errors import (
    AgendaUnreadable,
    AnswerFailed,
    AnswerTooLarge,
    AnswerUnreadable,
    ApplyFailed,
    CallerError,
    CommandIdReused,
    CommitFailed,
    CommitsLost,
    CommitTooLarge,
    ConnectionLost,
    DeadlineExceeded,
    DefinitionError,
    EngineClosed,
    EventsUnreadable,
    Fenced,
    HandlerFailed,
    ImpureHandler,
    InvalidMessage,
    LimitReached,
    LogCorrupt,
    LogLocked,
    LogRefused,
    MillstreamError,
    NotAuthenticated,
    NotKept,
    NotLeader,
    NotOnAgenda,
    NotPermitted,
    NotYetVisible,
    OutcomeUnknown,
    Overloaded,
    ProtocolViolated,
    Rejected,
    RemoteError,
    SnapshotMismatch,
    TryAgainLater,
    UnknownMessage,
    VersionConflict,
    ViewBehind,
    ViewFaulted,
    ViewIncomplete,
    ViewUnavailable,
    WatchesFull,
    WatchOverrun,
    WriterUnavailable,
    WrongLoop,
    WrongShard,
)
from millstream.engine.upkeep.errors import DigestMissing
from millstream.engine.wire import ErrorObject, error_from, error_object
from millstream.engine.wire.errors import BRANCHES, CODES
from millstream.engine.wire.messages import failure_of

_UNREADABLE = {"type": "Paid", "count": 2, "commit": 3, "position": 4, "known": False, "problem": "why"}

#: One table, run both ways: an error, its code, and its fields as they travel.
FAULTS: tuple[tuple[MillstreamError, int, dict[str, Any]], ...] = (
    (
        Rejected("no", "why", {"left": 3}, position=7),
        1001,
        {"code": "no", "message": "why", "details": {"left": 3}, "position": 7},
    ),
    (Rejected("no"), 1001, {"code": "no", "message": "", "details": {}, "position": None}),
    (InvalidMessage("Add", "why"), 1002, {"message_type": "Add", "problem": "why"}),
    (
        UnknownMessage("command", "Ad", "shop", ("Add", "Take"), "here"),
        1003,
        {"kind": "command", "message_type": "Ad", "app": "shop", "known": ["Add", "Take"], "place": "here"},
    ),
    (WrongShard("key 'a'", "why"), 1012, {"what": "key 'a'", "problem": "why"}),
    (VersionConflict("a", 3, 4, 9), 1004, {"key": "a", "expected": 3, "actual": 4, "position": 9}),
    (CommandIdReused("id", "Add", 7, 9), 1005, {"command_id": "id", "command": "Add", "commit": 7, "position": 9}),
    (CommitTooLarge("Add", 9, 8), 1006, {"command": "Add", "size_bytes": 9, "commit_bytes_max": 8}),
    (AnswerTooLarge("Hold", 9, 8), 1010, {"command": "Hold", "size_bytes": 9, "answer_bytes_max": 8}),
    (
        AnswerUnreadable("Hold", "why", {"commit": 1}),
        4011,
        {"command": "Hold", "problem": "why", "receipt": {"commit": 1}},
    ),
    (AgendaUnreadable("log", "app", {"A": 1}), 4012, {"log": "log", "app": "app", "commands": {"A": 1}}),
    (NotAuthenticated("why"), 1007, {"problem": "why"}),
    (NotOnAgenda("event:812/Selling.placed", 2), 1009, {"entry": "event:812/Selling.placed", "entries": 2}),
    (NotKept("Sales", "past", "keep it"), 1011, {"view": "Sales", "what": "past", "instead": "keep it"}),
    (ViewUnavailable("Sales", "it is locked"), 2012, {"view": "Sales", "problem": "it is locked"}),
    (NotPermitted("execute", "reader"), 1008, {"method": "execute", "role": "reader"}),
    (
        Overloaded(5, 5),
        2001,
        {"waiting": 5, "mailbox_commands_max": 5, "waiting_bytes": None, "mailbox_bytes_max": None},
    ),
    (
        Overloaded(5, 9, 70, 80),
        2001,
        {"waiting": 5, "mailbox_commands_max": 9, "waiting_bytes": 70, "mailbox_bytes_max": 80},
    ),
    (
        DeadlineExceeded("Add", 1.5, decided=True),
        2002,
        {"command": "Add", "timeout_seconds": 1.5, "decided": True},
    ),
    (ViewBehind("Shelf", 3, 9, 9), 2003, {"view": "Shelf", "position": 3, "waiting": 9, "view_waiters_max": 9}),
    (NotYetVisible("Shelf", 3, 4, 0.5), 2004, {"view": "Shelf", "position": 3, "after": 4, "timeout_seconds": 0.5}),
    (WriterUnavailable("why"), 2005, {"reason": "why"}),
    (EngineClosed("closing"), 2006, {"state": "closing"}),
    (
        WatchOverrun("Shelf", 3, 9, 80),
        2007,
        {"view": "Shelf", "position": 3, "watch_answers_max": 9, "watch_answers_bytes_max": 80},
    ),
    (WatchesFull(9, 9), 2008, {"watches": 9, "watches_max": 9}),
    (NotLeader(None), 2009, {"address": None}),
    (NotLeader("tcp://127.0.0.1:1"), 2009, {"address": "tcp://127.0.0.1:1"}),
    (
        ConnectionLost("tcp://127.0.0.1:1", "why", sent=True),
        2010,
        {"address": "tcp://127.0.0.1:1", "problem": "why", "sent": True},
    ),
    (LimitReached("connections_max", 1_000), 2011, {"limit": "connections_max", "value": 1_000, "held": None}),
    (LimitReached("idle_seconds_max", 0.5), 2011, {"limit": "idle_seconds_max", "value": 0.5, "held": None}),
    (LimitReached("follows_max", 100, held=9), 2011, {"limit": "follows_max", "value": 100, "held": 9}),
    (CommitFailed(8, "why"), 3001, {"commit": 8, "problem": "why"}),
    (OutcomeUnknown(8, "why"), 3002, {"commit": 8, "problem": "why"}),
    (LogCorrupt("bank.db", 8, "why"), 3003, {"log": "bank.db", "commit": 8, "problem": "why"}),
    (LogRefused("bank.db", "why", "then"), 3004, {"log": "bank.db", "problem": "why", "next_step": "then"}),
    (LogLocked("bank.db"), 3005, {"log": "bank.db"}),
    (Fenced("bank.db", 8, 9), 3006, {"log": "bank.db", "commit": 8, "head": 9}),
    (CommitsLost("bank.db", 8, 5), 3007, {"log": "bank.db", "commit": 8, "head": 5}),
    (DefinitionError("why"), 4001, {"problem": "why", "places": []}),
    (DefinitionError("why", "here", "there"), 4001, {"problem": "why", "places": ["here", "there"]}),
    (HandlerFailed("Stock.add", "Add", "why"), 4002, {"handler": "Stock.add", "command": "Add", "problem": "why"}),
    (ImpureHandler("Stock.add", "Add"), 4003, {"function": "Stock.add", "message_type": "Add"}),
    (
        ApplyFailed("Stock", "Added", 3, "why"),
        4004,
        {"model": "Stock", "event": "Added", "position": 3, "problem": "why"},
    ),
    (AnswerFailed("Shelf", "StockOf", "why"), 4005, {"view": "Shelf", "query": "StockOf", "problem": "why"}),
    (ViewFaulted("Shelf", 3, KeyError("a")), 4006, {"view": "Shelf", "position": 3, "cause": "KeyError('a')"}),
    (SnapshotMismatch("ledger", "why"), 4007, {"part": "ledger", "problem": "why"}),
    (
        ViewIncomplete("Shelf", "StockOf", 3, 2, 1, {"a": [1]}),
        4008,
        {"view": "Shelf", "query": "StockOf", "position": 3, "parked": 2, "skipped": 1, "answer": {"a": [1]}},
    ),
    (
        EventsUnreadable("bank.db", "shop", [UnreadableEvent("Paid", 2, 3, 4, False, "why")]),
        4009,
        {"log": "bank.db", "app": "shop", "events": [_UNREADABLE]},
    ),
    (WrongLoop("it", "one", "two"), 4010, {"what": "it", "opened_on": "one", "used_on": "two"}),
)


def fields_of(error: MillstreamError) -> dict[str, object]:
    """Its values; of an exception among them, how it looks."""
    return {name: repr(value) if isinstance(value, Exception) else value for name, value in vars(error).items()}


def sent(error: BaseException) -> dict[str, Any]:
    """The error as it comes out of the JSON that is sent."""
    failure: dict[str, Any] = json.loads(failure_of(7, error))
    assert (failure.pop("jsonrpc"), failure.pop("id"), list(failure)) == ("2.0", 7, ["error"])
    found: dict[str, Any] = failure["error"]
    return found


def received(told: dict[str, Any]) -> MillstreamError:
    return error_from(told["code"], told["message"], told.get("data"))


@pytest.mark.parametrize(("error", "code", "data"), FAULTS, ids=lambda value: type(value).__name__)
def test_an_error_travels_as_its_code_its_text_and_its_fields_and_is_the_same_error_again(
    error: MillstreamError, code: int, data: dict[str, Any]
) -> None:
    told = sent(error)
    assert told == {"code": code, "message": str(error), "data": {"error": type(error).__name__, **data}}
    again = received(told)
    assert (type(again), fields_of(again), str(again)) == (type(error), fields_of(error), str(error))
    assert sent(again) == told  # a replica passes on what its writer told it


def descendants(error: type[MillstreamError]) -> Iterator[type[MillstreamError]]:
    for each in error.__subclasses__():
        yield each
        yield from descendants(each)


def test_every_error_has_a_code_of_its_own_and_a_line_in_the_table() -> None:
    ours = {each for each in descendants(MillstreamError) if each.__module__.startswith(errors.__name__)}
    branches = {getattr(errors, name) for name in BRANCHES}
    coded = ours - branches - {ProtocolViolated, RemoteError}
    assert {each.__name__ for each in coded} == set(CODES)
    assert {type(error) for error, _, _ in FAULTS} == coded
    assert len({*CODES.values(), *BRANCHES.values()}) == len(CODES) + len(BRANCHES)


def test_the_thousand_of_a_code_tells_who_must_act() -> None:
    branches = {code // 1000: getattr(errors, name) for name, code in BRANCHES.items()}
    assert branches == {1: CallerError, 2: TryAgainLater, 3: errors.StorageError, 4: errors.AuthorError}
    assert all(issubclass(getattr(errors, name), branches[code // 1000]) for name, code in CODES.items())


@pytest.mark.parametrize("code", [-32700, -32600, -32601, -32602])
def test_what_json_rpc_has_a_code_for_has_that_one(code: int) -> None:
    told = sent(ProtocolViolated(code, "why"))
    assert told == {"code": code, "message": "why"}
    again = received(told)
    assert isinstance(again, ProtocolViolated)
    assert (again.code, again.problem) == (code, "why")


def test_an_error_that_nobody_meant_to_raise_tells_its_kind_and_nothing_it_holds() -> None:
    told = sent(KeyError("a secret"))
    assert told == {"code": -32603, "message": "the server failed: KeyError; its log says more"}
    again = received(told)
    assert isinstance(again, RemoteError)
    assert (again.code, again.message, again.data) == (-32603, told["message"], None)


class NoFunds(Rejected):
    """An application's own."""

    def __init__(self, left: int) -> None:
        super().__init__("no_funds", f"only {left} left", {"left": left})
        self.left = left


class Careless(Rejected):
    def __init__(self) -> None:
        """Leaves out what every rejection has."""


class Strange(CallerError):
    pass


def test_an_applications_own_rejection_is_a_rejection_and_a_kind_of_log_corrupt_is_that() -> None:
    again = received(sent(NoFunds(3)))
    assert (type(again), fields_of(again)) == (Rejected, fields_of(Rejected("no_funds", "only 3 left", {"left": 3})))
    missing = received(sent(DigestMissing("bank.db", 6, b"\x01")))
    assert isinstance(missing, LogCorrupt)
    assert missing.commit == 7


def test_an_error_of_an_applications_own_says_who_must_act() -> None:
    told = sent(Strange("what now?"))
    assert told == {"code": 1000, "message": "what now?", "data": {"error": "CallerError"}}
    again = received(told)
    assert isinstance(again, RemoteError)
    assert str(again) == "the server says (1000): what now?"


class Unlookable:
    def __repr__(self) -> str:
        raise RuntimeError("do not look")


def _deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


_circle: list[Any] = []
_circle.append(_circle)


@pytest.mark.parametrize(
    ("details", "told"),
    [
        ({"set": {1}}, {"set": [1]}),
        ({1: "a"}, {"1": "a"}),
        ({"large": 2**70}, {"large": 2**70}),
        ({"nan": float("nan")}, {"nan": None}),
        ({"object": complex(1, 2)}, "{'object': (1+2j)}"),
        ({"text": "\ud800"}, "{'text': '\\ud800'}"),
        ({(1, 2): "a"}, "{(1, 2): 'a'}"),
    ],
)
def test_details_that_json_can_not_hold_become_text(details: dict[str, Any], told: object) -> None:
    assert sent(Rejected("no", "why", details))["data"]["details"] == told


@pytest.mark.parametrize(
    "error",
    [
        Rejected("no", "\ud800 is no text"),
        Rejected("no", "why", {"object": Unlookable()}),
        Rejected("no", "why", {"circle": _circle}),
        Careless(),
        VersionConflict("a", "b", None),  # type: ignore[arg-type]
        ViewFaulted("Shelf", 3, BaseException(Unlookable())),
    ],
)
def test_whatever_an_error_holds_it_becomes_one_that_can_be_sent_and_read(error: MillstreamError) -> None:
    assert isinstance(received(sent(error)), MillstreamError)


def test_however_deep_the_details_of_an_error_are_it_can_be_sent() -> None:
    def told(levels: int) -> bytes:
        return failure_of(7, Rejected("no", "why", {"deep": _deep(levels)}))

    assert b'"details":{"deep":[1]}' in told(1)
    too_deep = bisect_left(range(1_100), True, key=lambda levels: b'"details":"<dict>"' in told(levels))
    assert 1 < too_deep < 1_100
    lines = [told(levels) for levels in (*range(1, 1_100, 30), *range(too_deep - 30, too_deep + 30))]
    assert [line for line in lines if b'"code":1001' not in line and b"Rejected is nested too deeply" not in line] == []


def test_what_can_be_written_alone_but_not_in_its_error_is_told_by_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    deep = ErrorObject(1001, "no", _deep(5_000))
    monkeypatch.setattr("millstream.engine.wire.messages.error_object", lambda _: deep)
    assert json.loads(failure_of(7, Rejected("no")))["error"] == {
        "code": -32603,
        "message": "Rejected is nested too deeply",
    }


def test_a_rejection_with_what_is_no_text_is_sent_with_that_escaped() -> None:
    assert sent(Rejected("no", "\ud800"))["message"] == "no: \\ud800"


@pytest.mark.parametrize(
    "data",
    [
        None,
        "Rejected",
        {"error": "Rejected"},
        {"error": "Rejected", "code": 3},
        {"error": "Rejected", "code": "no", "message": None},
        {"error": "Rejected", "code": "no", "position": -1},
        {"error": "Rejected", "code": "no", "position": 2**63},
        {"error": "Rejected", "code": "no", "position": "7"},
        {"error": "VersionConflict", "key": "a", "expected": 1, "actual": 2},
        {"error": ["Rejected"], "code": "no"},
        {"error": "MillstreamError"},
        {"error": "NoSuchError", "code": "no"},
    ],
)
def test_an_error_that_does_not_fit_its_class_is_a_remote_error_with_all_that_came(data: Any) -> None:
    again = error_from(1001, "what it said", data)
    assert isinstance(again, RemoteError)
    assert (again.code, again.message, again.data) == (1001, "what it said", data)


def test_fields_that_a_newer_server_adds_are_left_out() -> None:
    again = error_from(
        1005, "", {"error": "CommandIdReused", "command_id": "i", "command": "Add", "commit": 1, "new": 2}
    )
    assert fields_of(again) == fields_of(CommandIdReused("i", "Add", 1))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
_codes = st.sampled_from([*CODES.values(), *BRANCHES.values(), -32700, -32603, 0, 1_001_001])
_parts = st.dictionaries(
    st.sampled_from(sorted({name for _, _, data in FAULTS for name in data})), json_values, max_size=6
)


@given(_codes | st.integers(), st.text(), st.sampled_from([*CODES, "x"]), _parts | json_values)
def test_whatever_a_server_sends_becomes_an_error_that_can_be_told(
    code: int, message: str, name: str, data: Any
) -> None:
    made = error_from(code, message, {"error": name, **data} if isinstance(data, dict) else data)
    assert isinstance(made, MillstreamError)
    assert isinstance(str(made), str)


@given(st.text(), st.text(), st.dictionaries(st.text(), json_values, max_size=4))
def test_any_rejection_of_what_json_holds_is_the_same_after_the_journey(
    code: str, message: str, details: dict[str, Any]
) -> None:
    error = Rejected(code, message, details)
    assert fields_of(received(sent(error))) == fields_of(error)


def test_an_error_object_says_nothing_about_data_where_there_is_none() -> None:
    assert msgspec.json.encode(error_object(ProtocolViolated(-32600, "why"))) == b'{"code":-32600,"message":"why"}'

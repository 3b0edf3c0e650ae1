"""What is sent next, whom a reply is for, and what is sent again: without a socket and without a loop."""

from __future__ import annotations

from typing import Any

import pytest

from millstream.engine import CommitFailed, MillstreamError, Rejected
from millstream.engine.application.options import Deadline
from millstream.engine.client import ClientLimits
from millstream.engine.client.calls import Call, Calls
from millstream.engine.errors import ConnectionLost, DeadlineExceeded, EngineClosed, LimitReached, ProtocolViolated

NAME = "tcp://there:1"


class Promise:
    """Keeps what it is told; twice would be once too often."""

    def __init__(self) -> None:
        self.outcome: Any = None
        self.is_given_up = False

    def done(self) -> bool:
        return self.is_given_up or self.outcome is not None

    def set_result(self, result: Any, /) -> None:
        assert not self.done()
        self.outcome = result

    def set_exception(self, exception: BaseException, /) -> None:
        assert not self.done()
        self.outcome = exception


def command(name: str, *, named: bool = False, deadline: Deadline | None = None) -> Call:
    params = b'"command":{"type":"%b"}' % name.encode()
    return Call(b"execute", params, Promise(), name=name, changes=True, repeatable=named, deadline=deadline)


def question(name: str, deadline: Deadline | None = None) -> Call:
    return Call(b"ask", b'"query":{"type":"%b"}' % name.encode(), Promise(), name=name, deadline=deadline)


def calls_of(*calls: Call, **limits: Any) -> Calls:
    made = Calls(NAME, ClientLimits(**limits))
    for call in calls:
        made.add(call)
    return made


def outcome(call: Call) -> Any:
    assert isinstance(call.promise, Promise)
    return call.promise.outcome


def give_up(call: Call) -> None:
    assert isinstance(call.promise, Promise)
    call.promise.is_given_up = True


def test_a_call_is_one_line_of_json_rpc() -> None:
    calls = calls_of(command("Add"), question("StockOf"), Call(b"health", b"", Promise()))
    assert calls.take(0.0) == [
        b'{"jsonrpc":"2.0","id":1,"method":"execute","params":{"command":{"type":"Add"}}}\n',
        b'{"jsonrpc":"2.0","id":2,"method":"ask","params":{"query":{"type":"StockOf"}}}\n',
        b'{"jsonrpc":"2.0","id":3,"method":"health","params":{}}\n',
    ]
    assert calls.take(0.0) == []


def test_no_more_are_sent_than_may_be_in_flight() -> None:
    first, second, third = (question(name) for name in "abc")
    calls = calls_of(first, second, third, in_flight_max=2)
    before = calls.may_send
    assert len(calls.take(0.0)) == 2
    full = calls.may_send
    del calls.sent[first.id]
    assert (before, full, calls.may_send) == (True, False, True)
    assert [b'"type":"c"' in line for line in calls.take(0.0)] == [True]


def test_a_call_of_several_commands_counts_as_so_many_in_flight_and_one_alone_always_may() -> None:
    def several(commands: int) -> Call:
        return Call(b"execute_many", b"", Promise(), changes=True, commands=commands)

    first, second, third, large = several(2), several(2), several(1), several(9)
    calls = calls_of(first, second, third, large, in_flight_max=3)
    taken = [len(calls.take(0.0))]  # the second one would be the fourth
    may_send = [calls.may_send]
    for call in (first, second, third):
        calls.more -= calls.sent.pop(call.id).commands - 1
        may_send.append(calls.may_send)
        taken.append(len(calls.take(0.0)))
    assert (taken, may_send) == ([1, 2, 0, 1], [False, True, False, True])
    calls.lost("it went away")
    assert calls.more == 0


def test_one_that_was_given_up_keeps_its_place_in_flight_until_its_reply_comes() -> None:
    first, second = question("a"), question("b")
    calls = calls_of(first, second, in_flight_max=1)
    calls.take(0.0)
    give_up(first)
    assert calls.take(0.0) == []


def test_no_more_is_given_to_the_socket_at_once_than_may_lie_there() -> None:
    calls = calls_of(*(question("x" * 300) for _ in range(5)), output_bytes_max=700)
    assert [len(calls.take(0.0)) for _ in range(3)] == [2, 2, 1]


def test_what_was_given_up_before_it_was_sent_is_not_sent() -> None:
    first, second = command("a"), command("b")
    calls = calls_of(first, second)
    give_up(first)
    assert [b'"type":"b"' in line for line in calls.take(0.0)] == [True]
    assert first.sends == 0


def test_after_a_lost_connection_what_is_safe_is_sent_again_in_the_same_order_and_before_all_others() -> None:
    sent = [command("a", named=True), question("b"), command("c"), command("d", named=True), question("e")]
    late = question("f")
    calls = calls_of(*sent)
    calls.take(0.0)
    calls.add(late)
    give_up(sent[4])
    calls.lost("it went away")
    assert [call.name for call in calls.waiting] == ["a", "b", "d", "f"]
    lost = outcome(sent[2])
    assert (type(lost), lost.address, lost.problem, lost.sent) == (ConnectionLost, NAME, "it went away", True)
    assert [line.partition(b'"id":')[2][:1] for line in calls.take(0.0)] == [b"1", b"2", b"4", b"6"]


def test_what_was_not_sent_yet_survives_a_lost_connection_whatever_it_is() -> None:
    first, second = question("a"), command("b")
    calls = calls_of(first, second, in_flight_max=1)
    calls.take(0.0)
    calls.lost("it went away")
    assert [call.name for call in calls.waiting] == ["a", "b"]
    assert (outcome(first), outcome(second)) == (None, None)


def test_nothing_is_sent_more_often_than_it_may_be() -> None:
    call, query = command("a", named=True), question("b")
    calls = calls_of(call, query, sends_max=3)
    for _ in range(2):
        assert len(calls.take(0.0)) == 2
        calls.lost("again")
        assert (outcome(call), outcome(query)) == (None, None)
    calls.take(0.0)
    calls.lost("again")
    assert (outcome(call).sent, outcome(query).sent) == (True, False)
    assert calls.take(0.0) == []


def test_where_the_server_took_nothing_nothing_is_in_doubt() -> None:
    call = command("a")
    calls = calls_of(call, sends_max=1)
    calls.take(0.0)
    doubt = call.is_in_doubt
    calls.lost("it was full", taken=False)
    assert (doubt, call.is_in_doubt) == (True, False)
    assert len(calls.take(0.0)) == 1


def test_the_server_is_told_what_is_left_of_the_time_where_its_method_takes_that() -> None:
    deadline = Deadline(at=12.5, timeout_seconds=5.0)
    calls = calls_of(question("a", deadline), Call(b"stats", b"", Promise(), deadline=deadline))
    assert calls.take(10.0) == [
        b'{"jsonrpc":"2.0","id":1,"method":"ask","params":{"query":{"type":"a"},"timeout":2.500000}}\n',
        b'{"jsonrpc":"2.0","id":2,"method":"stats","params":{}}\n',
    ]


def test_what_is_out_of_time_is_not_sent() -> None:
    call, next_one = command("a", deadline=Deadline(9.0, 1.0)), command("b")
    calls = calls_of(call, next_one)
    assert len(calls.take(9.0)) == 1
    error = outcome(call)
    assert isinstance(error, DeadlineExceeded)
    assert (error.command, error.timeout_seconds, error.decided, error.__cause__) == ("a", 1.0, False, None)


def test_a_command_that_may_have_happened_is_not_said_to_be_out_of_time() -> None:
    call = command("a", named=True, deadline=Deadline(9.0, 1.0))
    query = question("b", Deadline(9.0, 1.0))
    calls = calls_of(call, query)
    calls.take(8.5)
    calls.lost("it went away")
    assert calls.take(9.5) == []
    assert isinstance(outcome(call), ConnectionLost)
    assert outcome(call).sent is True
    assert isinstance(outcome(query), DeadlineExceeded)
    assert outcome(query).decided is False


LATE = DeadlineExceeded("Add", 2.0, decided=False)
DENIALS = [LATE, ConnectionLost("the writer", "nobody is there", sent=False), EngineClosed("closing")]


@pytest.mark.parametrize("error", DENIALS, ids=repr)
def test_a_reply_says_nothing_of_what_was_sent_before_on_a_lost_connection(error: MillstreamError) -> None:
    again, asked, once = command("Add", named=True), question("StockOf"), command("Remove", named=True)
    calls = calls_of(again, asked)
    calls.take(0.0)
    calls.lost("reset")
    calls.add(once)
    calls.take(0.0)
    for call in (again, asked, once):
        calls.refuse(call, error)
    lost = outcome(again)
    assert isinstance(lost, ConnectionLost)
    assert (lost.sent, lost.__cause__) == (True, error)
    assert lost.problem == f"it was sent 2 times, and only to the last of them came a reply: {error}"
    assert outcome(asked) is outcome(once) is error


@pytest.mark.parametrize(
    "error",
    [
        Rejected("no_stock"),
        DeadlineExceeded("Add", 2.0, decided=True),
        ConnectionLost("the writer", "reset", sent=True),
        CommitFailed(3, "no room"),
    ],
    ids=repr,
)
def test_what_holds_however_often_it_was_sent_is_told_as_it_is(error: MillstreamError) -> None:
    again = command("Add", named=True)
    calls = calls_of(again)
    calls.take(0.0)
    calls.lost("reset")
    calls.take(0.0)
    calls.refuse(again, error)
    assert outcome(again) is error


def test_one_that_is_given_up_while_there_is_no_connection_says_why() -> None:
    call = command("a", deadline=Deadline(9.0, 1.0))
    calls = calls_of(call)
    calls.give_up(call, "nobody listens")
    cause = outcome(call).__cause__
    assert str(cause) == "no connection to tcp://there:1: nobody listens; nothing happened: it is safe to retry"


def test_what_a_server_would_not_read_is_refused_here() -> None:
    calls = calls_of(frame_bytes_max=1_000)
    calls.add(Call(b"ask", b"x" * 840, Promise()))
    with pytest.raises(ProtocolViolated, match="a line is longer than frame_bytes_max=1,000: split the request"):
        calls.add(Call(b"ask", b"x" * 841, Promise()))
    (line,) = calls.take(0.0)
    assert len(line) < 1_000


def test_no_more_may_wait_than_the_limit_says_and_what_was_given_up_does_not_wait() -> None:
    waiting = [question(name) for name in "ab"]
    calls = calls_of(*waiting, waiting_calls_max=2)
    with pytest.raises(LimitReached, match="waiting_calls_max=2"):
        calls.add(question("c"))
    give_up(waiting[0])
    calls.add(question("d"))
    assert [call.name for call in calls.waiting] == ["b", "d"]


def test_all_can_be_told_that_it_is_over_or_some_of_them() -> None:
    sent, waits, query = command("a"), command("b"), question("c")
    calls = calls_of(sent, in_flight_max=1)
    calls.take(0.0)
    calls.add(waits)
    calls.add(query)
    before = calls.has_commands

    def reason(call: Call) -> MillstreamError:
        return EngineClosed(call.name)

    calls.fail_all(reason, only=lambda call: not call.changes)
    assert [outcome(call) and outcome(call).state for call in (sent, waits, query)] == [None, None, "c"]
    assert [call.name for call in calls.waiting] == ["b"]
    calls.fail_all(reason)
    assert [outcome(call).state for call in (sent, waits, query)] == ["a", "b", "c"]
    assert (before, calls.has_commands) == (True, False)
    assert not calls.waiting

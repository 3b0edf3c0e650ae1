"""The checker of histories is itself checked: on histories that are right, that are wrong, and against brute force."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from typing import Any, TypeAlias

import msgspec
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from millstream.bench.proofs.histories.accounts import Deposit, Open, Standing, StandingOf, Withdraw
from millstream.bench.proofs.histories.linear import (
    Linearizable,
    Undecided,
    Verdict,
    Violation,
    check,
    check_each,
)
from millstream.bench.proofs.histories.operations import Operation
from millstream.bench.proofs.histories.spec import (
    Accepted,
    Account,
    Call,
    Denied,
    Question,
    Refused,
    Sent,
    Shown,
)

# A register: the smallest object of which two clients can disagree.

Asked: TypeAlias = tuple[Any, ...]
Step: TypeAlias = Operation[Asked, Any]


class Register:
    """Holds one number, 0 at first: ("write", n) → "ok", ("read",) → n, ("swap", old, new) → whether it was old."""

    def first(self) -> int:
        return 0

    def apply(self, state: int, asked: Asked, output: Any) -> int | None:
        match asked:
            case ("write", value):
                return value if output in (None, "ok") else None
            case ("read",):
                return state if output in (None, f"is {state}") else None
            case ("swap", old, new):
                return (new if state == old else state) if output in (None, state == old) else None
        raise ValueError(asked)

    def only_looks(self, asked: Asked, output: Any) -> bool:
        return asked == ("read",) or output is False

    def too_late(self, state: int, asked: Asked, output: Any) -> bool:
        return False


class Watchless(Register):
    """The same, of which nothing is known that would make the search shorter."""

    def only_looks(self, asked: Asked, output: Any) -> bool:
        return False


def op(begin: float, end: float | None, asked: Asked, output: Any = None, client: str = "c", key: str = "x") -> Step:
    return Operation(client=client, key=key, asked=asked, output=output, invoked_at=begin, returned_at=end)


def write(begin: float, end: float | None, value: int, key: str = "x") -> Step:
    return op(begin, end, ("write", value), None if end is None else "ok", key=key)


def read(begin: float, end: float, value: int, key: str = "x") -> Step:
    return op(begin, end, ("read",), f"is {value}", key=key)


def swap(begin: float, end: float | None, old: int, new: int, done: bool | None = None) -> Step:
    return op(begin, end, ("swap", old, new), done)


RIGHT: dict[str, list[Step]] = {
    "nothing happened": [],
    "one after another": [write(0, 1, 1), read(2, 3, 1), write(4, 5, 2), read(6, 7, 2)],
    "an initial value": [read(0, 1, 0)],
    "two reads beside a write, the old value in the first": [write(0, 9, 1), read(1, 2, 0), read(3, 4, 1)],
    "two overlapping reads, the one that was invoked later sees less": [
        write(0, 9, 1),
        read(1, 5, 1),
        read(2, 6, 0),
    ],
    "two overlapping writes, in either order": [write(0, 5, 1), write(1, 4, 2), read(6, 7, 1), read(8, 9, 1)],
    "a write that returns before another, and takes effect after it": [
        write(0, 4, 1),
        write(1, 9, 2),
        read(2, 3, 2),
        read(5, 6, 1),
    ],
    "the same moment is no order": [write(0, 1, 1), read(1, 2, 0), read(3, 4, 1)],
    "a write without a result that happened": [write(0, None, 1), read(5, 6, 0), read(7, 8, 1)],
    "a write without a result that did not happen": [write(0, None, 1), read(5, 6, 0), read(7, 8, 0)],
    "a write without a result that happens long after, between others": [
        write(0, None, 7),
        write(1, 2, 1),
        write(3, 4, 2),
        read(5, 6, 2),
        read(7, 8, 7),
        write(9, 10, 3),
        read(11, 12, 3),
    ],
    "only operations without a result": [write(0, None, 1), swap(1, None, 1, 2)],
    "a swap that explains what a write without a result did": [
        write(0, None, 1),
        swap(2, 3, 1, 2, True),
        read(4, 5, 2),
    ],
    "a chain that has one order only, the reverse of the invocations": [
        swap(0, 9, 2, 3, True),
        swap(1, 9, 1, 2, True),
        swap(2, 9, 0, 1, True),
        read(10, 11, 3),
    ],
    "a write of what is there already, which is needed later": [
        write(0, 1, 1),
        write(2, 3, 0),
        write(2, 4, 1),
        read(5, 6, 1),
    ],
    "ABA: the value comes back, and both swaps are right": [
        swap(0, 9, 0, 1, True),
        swap(0, 9, 1, 0, True),
        swap(0, 9, 0, 1, True),
        read(10, 11, 1),
    ],
}

WRONG: dict[str, list[Step]] = {
    "a stale read": [write(0, 1, 1), write(2, 3, 2), read(4, 5, 1)],
    "the initial value after a write": [write(0, 1, 1), read(2, 3, 0)],
    "a value that nobody wrote": [write(0, 1, 1), read(2, 3, 5)],
    "a value that is written later": [read(0, 1, 1), write(2, 3, 1)],
    "a write without a result, seen before it was asked for": [read(0, 1, 1), write(2, None, 1)],
    "a value that was seen and then unseen": [write(0, 9, 1), read(1, 2, 1), read(3, 4, 0)],
    "a write without a result that was seen and then unseen": [write(0, None, 1), read(1, 2, 1), read(3, 4, 0)],
    "a write without a result that happens twice": [
        write(0, None, 1),
        read(1, 2, 1),
        write(3, 4, 2),
        read(5, 6, 1),
    ],
    "a lost update: both swaps saw the same value": [swap(0, 3, 0, 1, True), swap(1, 4, 0, 2, True)],
    "a refusal that nothing explains": [swap(0, 1, 0, 1, False)],
    "a stale refusal": [write(0, 1, 1), write(2, 3, 2), swap(4, 5, 2, 3, False)],
    "two clients that see two writes in contradicting orders": [
        write(0, 9, 1),
        write(0, 9, 2),
        read(1, 2, 1),
        read(3, 4, 2),
        read(5, 6, 1),
    ],
    "a write that takes effect after its return": [write(0, 1, 1), read(2, 3, 0), read(4, 5, 1)],
    "an acknowledged write that is gone at the end": [
        write(0, 1, 1),
        read(2, 3, 1),
        write(2, None, 0),
        write(4, 5, 2),
        read(6, 7, 1),
    ],
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_history_that_has_an_order_is_found_to_be_right_with_such_an_order(name: str) -> None:
    verdict = check(Register(), RIGHT[name])
    assert isinstance(verdict, Linearizable), verdict
    assert_order(RIGHT[name], verdict)


@pytest.mark.parametrize("name", WRONG)
def test_a_history_that_has_no_order_is_a_violation(name: str) -> None:
    verdict = check(Register(), WRONG[name])
    assert isinstance(verdict, Violation), verdict
    assert_stuck(WRONG[name], verdict)


@pytest.mark.parametrize("name", [*RIGHT, *WRONG])
def test_brute_force_says_the_same_of_each_of_them(name: str) -> None:
    assert brute_force({**RIGHT, **WRONG}[name]) is (name in RIGHT)


def test_a_violation_says_how_far_it_is_right_and_what_does_not_fit() -> None:
    pending = write(2.5, None, 9)
    verdict = check(Register(), [*WRONG["a stale read"], pending])
    assert isinstance(verdict, Violation)
    assert [each.asked for each in verdict.order] == [("write", 1), ("write", 2)]
    assert (verdict.state, verdict.unfit, verdict.open, verdict.known) == (2, [read(4, 5, 1)], [pending], 3)
    assert str(verdict).splitlines() == [
        "not linearizable: 2 of 3 operations with a result can be put in order, and no more.",
        "In this order everything is right:",
        "  0.000 … 1,000.000 ms  c: ('write', 1) → ok",
        "  2,000.000 … 3,000.000 ms  c: ('write', 2) → ok",
        "That leaves 2. These are next, and do not fit:",
        "  4,000.000 … 5,000.000 ms  c: ('read',) → is 1",
        "Without a result, so they may have happened, and that does not help:",
        "  2,500.000 … ? ms  c: ('write', 9) → never answered",
    ]


def test_a_long_order_is_shown_by_its_end() -> None:
    verdict = check(Register(), [*(write(n, n + 0.5, n) for n in range(100)), read(100, 101, 98)])
    lines = str(verdict).splitlines()
    assert lines[2] == "  … 88 more"
    assert lines[14] == "  99,000.000 … 99,500.000 ms  c: ('write', 99) → ok"


def test_a_violation_at_the_very_beginning_is_shown_too() -> None:
    assert str(check(Register(), [read(3, 4, 1)])).splitlines() == [
        "not linearizable: 0 of 1 operations with a result can be put in order, and no more.",
        "That leaves 0. These are next, and do not fit:",
        "  3,000.000 … 4,000.000 ms  c: ('read',) → is 1",
    ]


def test_a_search_that_reaches_its_limit_is_undecided_and_never_a_pass() -> None:
    hard = [*(swap(0, 9, n, n + 1, True) for n in range(8)), read(10, 11, 8)]
    assert isinstance(check(Register(), hard), Linearizable)
    verdict = check(Register(), hard, steps_max=3)
    assert verdict == Undecided(3)
    assert str(verdict) == "undecided: no answer after 3 steps"
    assert check(Register(), [read(0, 1, 0)], steps_max=0) == Undecided(0)


def test_objects_are_checked_one_by_one_and_each_has_its_own_verdict() -> None:
    history = [write(0, 1, 1, "x"), write(2, 3, 2, "y"), read(4, 5, 2, "y"), read(4, 5, 2, "x")]
    verdicts = check_each(Register(), history)
    assert list(verdicts) == ["x", "y"]
    assert isinstance(verdicts["x"], Violation)
    assert isinstance(verdicts["y"], Linearizable)


def test_what_is_no_history_is_refused() -> None:
    with pytest.raises(ValueError, match="returns before it is invoked"):
        check(Register(), [write(2, 1, 1)])
    with pytest.raises(ValueError, match="a result or the time when it came"):
        check(Register(), [op(0, 1, ("read",))])
    with pytest.raises(ValueError, match="a result or the time when it came"):
        check(Register(), [op(0, None, ("read",), "is 0")])


def test_a_long_history_with_many_clients_and_open_writes_is_decided_in_few_steps() -> None:
    """Twenty clients at a time, and every fiftieth write is never heard of; each value is written once."""
    history: list[Step] = []
    for n in range(1, 3_000):
        lost = n % 50 == 0
        history.append(write(n, None if lost else n + 20.0, n))
        if n % 3 == 0:
            history.append(read(n + 0.2, n + 20.5, n))
    verdict = check(Register(), history, steps_max=20 * len(history))
    assert isinstance(verdict, Linearizable), verdict
    assert_order(history, verdict)


# The account: what is refused shows what it was decided on.


def call(begin: float, end: float | None, asked: Any, came: Any = None) -> Call:
    return Operation(client="c", key="ann", asked=asked, output=came, invoked_at=begin, returned_at=end)


def sent(begin: float, end: float | None, command: Any, version: int | None = None) -> Call:
    came = None if version is None else Accepted(version, commit=0, position=0)
    return call(begin, end, Sent("name", command), came)


def refused(begin: float, end: float, command: Any, code: str, version: int, balance: int) -> Call:
    return call(begin, end, Sent("name", command), Refused(code, Standing(version, balance), position=0))


def shown(begin: float, end: float, version: int, balance: int) -> Call:
    return call(begin, end, Question(StandingOf("ann"), after=0), Shown(Standing(version, balance), position=0))


OPEN, FIVE, NINE = Open("ann"), Deposit("ann", 5), Withdraw("ann", 9)

ACCOUNTS_RIGHT: dict[str, list[Call]] = {
    "refused, then opened, filled and emptied": [
        shown(0, 1, 0, 0),
        refused(0, 1, FIVE, "no_such_account", 0, 0),
        refused(0, 1, NINE, "no_such_account", 0, 0),
        sent(2, 3, OPEN, 1),
        refused(4, 5, OPEN, "account_exists", 1, 0),
        sent(6, 9, FIVE, 3),
        sent(6, 9, FIVE, 2),
        refused(7, 8, NINE, "insufficient_funds", 2, 5),
        sent(10, 11, NINE, 4),
        shown(12, 13, 4, 1),
        sent(14, 15, Withdraw("ann", 1), 5),
        shown(16, 17, 5, 0),
    ],
    "a deposit without a result that a withdrawal needs": [
        sent(0, 1, OPEN, 1),
        sent(2, 3, FIVE, 2),
        sent(4, None, FIVE),
        sent(5, 6, NINE, 4),
        shown(7, 8, 4, 1),
    ],
    "a withdrawal without a result that was refused, and nobody heard": [
        sent(0, 1, OPEN, 1),
        sent(2, None, NINE),
        sent(3, 4, FIVE, 2),
        shown(7, 8, 2, 5),
    ],
}

ACCOUNTS_WRONG: dict[str, list[Call]] = {
    "a refusal on a stale state": [
        sent(0, 1, OPEN, 1),
        sent(2, 3, Deposit("ann", 9), 2),
        refused(4, 5, NINE, "insufficient_funds", 1, 0),
    ],
    "a refusal that is none": [sent(0, 1, OPEN, 1), refused(2, 3, FIVE, "no_such_account", 1, 0)],
    "a refusal for a reason that is not the reason": [refused(0, 1, NINE, "insufficient_funds", 0, 0)],
    "money that is not there": [sent(0, 1, OPEN, 1), sent(2, 3, NINE, 2)],
    "opened twice": [sent(0, 1, OPEN, 1), sent(2, 3, OPEN, 2)],
    "a lost update: two deposits have the same version": [
        sent(0, 1, OPEN, 1),
        sent(2, 5, FIVE, 2),
        sent(3, 6, FIVE, 2),
    ],
    "a version without an event": [sent(0, 1, OPEN, 1), sent(2, 3, FIVE, 3)],
    "a deposit that was made twice": [sent(0, 1, OPEN, 1), sent(2, 3, FIVE, 2), shown(4, 5, 3, 10)],
    "a balance that does not fit its version": [sent(0, 1, OPEN, 1), sent(2, 3, FIVE, 2), shown(4, 5, 2, 0)],
    "an answer to a command, and a receipt for a question": [
        call(0, 1, Sent("name", OPEN), Shown(Standing(), 0)),
        call(0, 1, Question(StandingOf("ann"), 0), Accepted(1, 1, 1)),
    ],
}


@pytest.mark.parametrize("name", ACCOUNTS_RIGHT)
def test_an_account_that_keeps_its_promises_is_right(name: str) -> None:
    verdict = check(Account(), ACCOUNTS_RIGHT[name])
    assert isinstance(verdict, Linearizable), verdict


@pytest.mark.parametrize("name", ACCOUNTS_WRONG)
def test_an_account_that_breaks_a_promise_is_found(name: str) -> None:
    assert isinstance(check(Account(), ACCOUNTS_WRONG[name]), Violation)


def test_an_account_with_many_commands_that_were_never_heard_of_is_decided_in_few_steps() -> None:
    """Of 60 lost deposits every second one happens, 30 others later; nobody knows which, but for the balances."""
    balance, history = 0, [sent(0, 1, OPEN, 1)]
    for n in range(1, 61):
        history.append(sent(n, None, Deposit("ann", 2**n)))
        if n > 30 and n % 2:
            balance += 2 ** (n - 30)
            history.append(shown(n + 0.2, n + 0.9, (n - 29) // 2 + 1, balance))
    assert isinstance(check(Account(), history, steps_max=10_000), Linearizable)
    assert isinstance(check(Account(), [*history, shown(99, 100, 16, balance + 1)], steps_max=10_000), Violation)


class SlowAccount(Account):
    """The same, of which nothing is known that would make the search shorter."""

    def only_looks(self, asked: Any, output: Any) -> bool:
        return False

    def too_late(self, state: Standing, asked: Any, output: Any) -> bool:
        return False


commands = st.one_of(
    st.just(OPEN),
    st.builds(Deposit, st.just("ann"), st.integers(1, 3)),
    st.builds(Withdraw, st.just("ann"), st.integers(1, 5)),
)
standings = st.builds(Standing, st.integers(0, 3), st.integers(0, 5))
results = st.one_of(
    st.builds(Accepted, st.integers(1, 3), st.just(0), st.just(0)),
    st.builds(
        Refused,
        st.sampled_from(["account_exists", "no_such_account", "insufficient_funds"]),
        standings,
        st.just(0),
    ),
    st.just(Denied("EngineClosed")),
)


@st.composite
def account_histories(draw: st.DrawFn) -> list[Call]:
    """What commands and questions might have met with, right often enough: mostly an account's own words."""
    state, history = Standing(), list[Call]()
    for moment in range(draw(st.integers(0, 7))):
        begin, end = moment - draw(st.integers(0, 4)) - 0.1, moment + draw(st.integers(0, 4)) + 0.1
        made_up, lost = draw(st.integers(0, 9)) == 0, draw(st.integers(0, 4)) == 0
        if draw(st.integers(0, 2)) == 0:
            history.append(shown(begin, end, *msgspec.structs.astuple(draw(standings) if made_up else state)))
            continue
        asked = Sent("name", draw(commands))
        after = Account().apply(state, asked, None)
        assert after is not None
        came = draw(results) if made_up else right_result(state, after, asked)
        history.append(call(begin, None if lost else end, asked, None if lost else came))
        if not lost or draw(st.booleans()):
            state = after
    return draw(st.permutations(history))


def right_result(state: Standing, after: Standing, asked: Sent) -> Any:
    """The one result that fits: found by trying them."""
    refusals = [Refused(code, state, 0) for code in ("account_exists", "no_such_account", "insufficient_funds")]
    tried: list[Accepted | Refused] = [Accepted(after.version, 0, 0), *refusals]
    (found,) = [each for each in tried if Account().apply(state, asked, each) is not None]
    return found


@settings(max_examples=300)
@given(account_histories())
def test_what_is_known_of_accounts_makes_a_search_shorter_and_changes_no_verdict(history: list[Call]) -> None:
    verdict = check(Account(), history)
    event(type(verdict).__name__)
    assert type(verdict) is type(check(SlowAccount(), history))


# Against brute force.


def brute_force(history: Sequence[Step]) -> bool:
    """Whether any order of all operations with a result, and any of the others, is right. Nothing clever."""
    known = [each for each in history if each.returned_at is not None]
    others = [each for each in history if each.returned_at is None]
    chosen = ([each for bit, each in enumerate(others) if bits >> bit & 1] for bits in range(2 ** len(others)))
    return any(is_legal(order) for some in chosen for order in permutations([*known, *some]))


def is_legal(order: Sequence[Step]) -> bool:
    """Whether the order keeps real time, and every result is right in it."""
    state: int | None = Register().first()
    for place, each in enumerate(order):
        if any(later.returned_at is not None and later.returned_at < each.invoked_at for later in order[place + 1 :]):
            return False
        assert state is not None
        state = Register().apply(state, each.asked, each.output)
        if state is None:
            return False
    return True


def assert_order(history: Sequence[Step], verdict: Linearizable) -> None:
    """That the order holds everything with a result once, nothing twice, and is right."""
    places = [next(i for i, each in enumerate(history) if each is found) for found in verdict.order]
    assert len(set(places)) == len(places)
    assert {i for i, each in enumerate(history) if each.returned_at is not None} <= set(places)
    assert is_legal_in_one_pass(verdict.order)


def is_legal_in_one_pass(order: Sequence[Step]) -> bool:
    """As `is_legal`, for long orders: nobody may stand after someone who was invoked after his return."""
    state: int | None = Register().first()
    latest = float("-inf")
    for each in order:
        latest = max(latest, each.invoked_at)
        if each.returned_at is not None and each.returned_at < latest:
            return False
        assert state is not None
        state = Register().apply(state, each.asked, each.output)
        if state is None:
            return False
    return True


def assert_stuck(history: Sequence[Step], verdict: Violation) -> None:
    """That what is said to be right is, and what is said not to fit next does not."""
    assert is_legal(verdict.order)
    assert verdict.known == sum(each.returned_at is not None for each in history)
    assert verdict.unfit
    for each in verdict.unfit:
        assert not any(each is placed for placed in verdict.order)
        assert not is_legal([*verdict.order, each])


times = st.integers(0, 12)
askings = st.one_of(
    st.tuples(st.just("write"), st.integers(0, 2)),
    st.just(("read",)),
    st.tuples(st.just("swap"), st.integers(0, 2), st.integers(0, 2)),
)


def executed(asked: Asked, state: int) -> tuple[Any, int]:
    """The result of an operation and the state after it; what the register's model is compared with."""
    match asked:
        case ("write", value):
            return "ok", value
        case ("swap", old, new):
            return state == old, new if state == old else state
    return f"is {state}", state


@st.composite
def executions(draw: st.DrawFn, size: int) -> list[Step]:
    """What really happened one after another, seen by clients for each of whom it took some time."""
    state, history = 0, list[Step]()
    for moment, asked in enumerate(draw(st.lists(askings, max_size=size))):
        output, after = executed(asked, state)
        begin = moment - draw(st.integers(0, 5)) - 0.1
        fate = draw(st.integers(0, 5))
        if fate:
            history.append(op(begin, moment + draw(st.integers(0, 5)) + 0.1, asked, output))
        else:
            history.append(op(begin, None, asked))
        if fate or draw(st.booleans()):  # what was never heard of may not have happened either
            state = after
    return draw(st.permutations(history))


@st.composite
def mutations(draw: st.DrawFn) -> list[Step]:
    """Such an execution, in which results and times were changed."""
    history = draw(executions(6))
    for _ in range(draw(st.integers(1, 3))):
        if not history:
            break
        place = draw(st.integers(0, len(history) - 1))
        was = history[place]
        if was.returned_at is None:
            continue
        if draw(st.booleans()):
            outputs = {"write": st.just("ok"), "read": st.sampled_from(["is 0", "is 1", "is 2"]), "swap": st.booleans()}
            history[place] = op(was.invoked_at, was.returned_at, was.asked, draw(outputs[was.asked[0]]))
        else:
            begin, end = sorted((draw(times), draw(times)))
            history[place] = op(begin, end, was.asked, was.output)
    return history


@settings(max_examples=300)
@given(executions(60))
def test_what_really_happened_one_after_another_is_always_right(history: list[Step]) -> None:
    verdict = check(Register(), history)
    assert isinstance(verdict, Linearizable), verdict
    assert_order(history, verdict)


@settings(max_examples=300)
@given(mutations())
def test_what_was_changed_afterwards_is_judged_as_brute_force_does(history: list[Step]) -> None:
    verdict: Verdict = check(Register(), history)
    event(type(verdict).__name__)
    assert type(check(Watchless(), history)) is type(verdict)
    if brute_force(history):
        assert isinstance(verdict, Linearizable), verdict
        assert_order(history, verdict)
    else:
        assert isinstance(verdict, Violation), verdict
        assert_stuck(history, verdict)

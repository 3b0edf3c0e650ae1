"""What must hold of a log after a crash, as functions over values: the rows in it, and what callers were answered.

Here: every judgement. Not here: how rows are read (`files`) or how the engine is asked (`reopening`). The only thing of
the engine that is used is the pure function that verifies a commit against the one before it; the rest reads the JSON
as any other program would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple, TypeAlias

from millstream.bench.proofs import problems
from millstream.bench.proofs.bodies import commands_in, failed_in, timers_in
from millstream.bench.proofs.torture.application import CHARGING, FEES, SETTLED_AFTER, is_billed_later, is_charged
from millstream.bench.proofs.torture.effects import Owing, owing_after, wrong_effects
from millstream.bench.proofs.torture.reports import Ack, Place, Refusal, Report, Seen
from millstream.bench.proofs.torture.work import expected_events, name_in_log
from millstream.engine.commits.chain import Chain
from millstream.engine.commits.commit import Commit, Head, timestamp
from millstream.engine.errors import LogCorrupt

__all__ = [
    "Kind",
    "Known",
    "Problem",
    "Told",
    "Waiting",
    "agenda_after",
    "balances_after",
    "broken_promises",
    "forgotten",
    "missing",
    "not_a_prefix",
    "of_effects",
    "read_on",
    "told_by",
    "wrong_agenda",
    "wrong_balances",
    "wrong_cascades",
    "wrong_timers",
]

_Events: TypeAlias = Sequence[Mapping[str, Any]]


#: A timer that was due so long ago, by the time in the log, is forgotten: processes live for seconds.
_FORGOTTEN_AFTER = timedelta(seconds=60)


class Kind(StrEnum):
    """What can be wrong."""

    LOST = "acknowledged, and not in the log"
    DOUBLED = "in the log twice"
    MISPLACED = "in the log elsewhere than the receipt said"
    ALTERED = "in the log with other events than its command yields"
    UNDONE = "refused for certain, and in the log"
    BROKEN = "the chain of commits is broken"
    REWRITTEN = "a commit is not what it was"
    CASCADE = "what follows from a command is not what lies in its commit"
    TIMER = "a timer is not sent once, in its time, with what follows from it"
    EFFECT = "an effect is not performed in its turn under its id, and settled once with what came of it"
    AGENDA = "the engine's agenda is not what the log says"
    BALANCES = "the engine's balances are not those of the log"
    UNREAL = "seen in an answer, and not in the log"
    MISREAD = "an answer did not show what was acknowledged"
    UNOPENED = "the log does not open"
    LOCK = "the log's lock did not do its work"
    PROCESS = "a process did not do what it was to do"


Problem: TypeAlias = problems.Problem[Kind]


class Told(NamedTuple):
    """What the callers of one log were answered: what was acknowledged, what was refused, what was seen in answers."""

    acked: Mapping[str, Place]
    refused: Mapping[str, str]
    #: How many receipts said that the command was there already.
    repeated: int = 0
    #: The position up to which answers showed events.
    seen: int = 0

    @property
    def commit(self) -> int:
        """The last commit that a caller was given."""
        return max((place.commit for place in self.acked.values()), default=0)


class Waiting(NamedTuple):
    """A timer that waits: when it is due, and the transfer's amount that its command must know."""

    due: str
    of: int


class Known(NamedTuple):
    """What a log says by itself, as far as it was read: its rows, their head, where each command is, the balances."""

    commits: Sequence[Commit] = ()
    head: Head = Head()
    places: Mapping[str, Place] = {}
    balances: Mapping[str, int] = {}
    #: How many reactions have failed, and were not tried again.
    parked: int = 0
    #: The timers that wait, by name.
    waiting: Mapping[str, Waiting] = {}
    owing: Owing = Owing.nothing()

    @property
    def on_agenda(self) -> int:
        """How many entries the engine's agenda must have."""
        return self.parked + len(self.waiting) + self.owing.on_agenda


def told_by(reports: Iterable[Report], before: Told = Told({}, {})) -> tuple[Told, list[Problem]]:  # noqa: B008
    """What was said about one log, on from what was said before; and where that contradicts itself."""
    acked, refused, repeated, seen = dict(before.acked), dict(before.refused), before.repeated, before.seen
    problems: list[Problem] = []
    for report in reports:
        if isinstance(report, Ack):
            repeated += report.repeated
            first = acked.setdefault(report.name, report.place)
            if first != report.place:
                problems.append(Problem(Kind.MISPLACED, f"{report.name}: first {first}, later {report.place}"))
        elif isinstance(report, Refusal):
            refused[report.name] = report.error
        elif isinstance(report, Seen):
            seen = max(seen, report.position)
        else:
            problems.append(Problem(Kind.MISREAD, report.text))
    return Told(acked, refused, repeated, seen), problems


def read_on(
    known: Known, rows: Sequence[Commit], expected: Callable[[str], _Events] = expected_events
) -> tuple[Known, list[Problem]]:
    """Read what has come to a log since it was last read, and find what can be wrong with rows alone.

    What was read before must be there unchanged. Of what is new, numbers and positions have no gap, every digest fits,
    time does not go back, no command is there that is there already, and each has the events that it yields.

    Args:
        known: what was read before; ``Known()`` for the first time.
        rows: all rows of the log.
        expected: the events that the command of a name yields.

    Returns:
        What is known now, up to the first row that is broken; and what is wrong.
    """
    problems = not_a_prefix(known.commits, rows)
    if problems:
        return known, problems
    head, places, balances, parked = known.head, dict(known.places), dict(known.balances), known.parked
    waiting, owing = dict(known.waiting), known.owing.copy()
    for commit in rows[len(known.commits) :]:
        try:
            records = _verified(head, commit)
            if commit.body[0:1] == b"{":  # format 1 is from before there were any
                parked += wrong_cascades(records, failed_in(commit.body), commit.number, problems)
                wrong_timers(waiting, records, commit, problems)
                problems += of_effects(f"commit {commit.number}", wrong_effects(owing, records, commit))
            for name, place, events in _commands(commit, records):
                if name in places:
                    problems.append(Problem(Kind.DOUBLED, f"{name}: {places[name]} and {place}"))
                elif events != expected(name):
                    problems.append(Problem(Kind.ALTERED, f"{name} at {place}: {events}, not {expected(name)}"))
                places[name] = place
            for record in records:
                _count(balances, record["events"])
        except (LookupError, TypeError, ValueError, LogCorrupt) as error:
            problems.append(Problem(Kind.BROKEN, f"{type(error).__name__} at commit {head.number + 1}: {error}"))
            break
        position = head.position + sum(len(record["events"]) for record in records)
        head = Head(commit.number, position, commit.recorded_at, commit.digest)
    return Known(rows[: head.number], head, places, balances, parked, waiting, owing), problems


def broken_promises(known: Known, told: Told) -> list[Problem]:
    """What callers were answered and the log does not hold, or holds where it was not said to be."""
    problems = missing(known.places, told)
    if told.seen > known.head.position:
        what = f"an answer showed event {told.seen}, and the log ends with {known.head.position}"
        problems.append(Problem(Kind.UNREAL, what))
    for name, place in told.acked.items():
        if known.places.get(name, place) != place:
            problems.append(Problem(Kind.MISPLACED, f"{name}: said to be at {place}, is at {known.places[name]}"))
    for name in told.refused.keys() & known.places.keys():
        problems.append(Problem(Kind.UNDONE, f"{name}: {told.refused[name]}, and it is at {known.places[name]}"))
    return problems


def missing(places: Mapping[str, Place], told: Told) -> list[Problem]:
    """What was acknowledged and is not there."""
    lost = (name for name in told.acked if name not in places)
    return [Problem(Kind.LOST, f"{name}: said to be at {told.acked[name]}") for name in lost]


def not_a_prefix(earlier: Sequence[Commit], later: Sequence[Commit]) -> list[Problem]:
    """That the first of two readings of one log is how the second begins, byte for byte."""
    if len(earlier) > len(later):
        return [Problem(Kind.REWRITTEN, f"there were {len(earlier)} commits, now there are {len(later)}")]
    for before, after in zip(earlier, later, strict=False):
        if before != after:
            return [Problem(Kind.REWRITTEN, f"commit {before.number} was {before!r:.300}, now it is {after!r:.300}")]
    return []


def balances_after(commits: Sequence[Commit], known: Known = Known()) -> dict[str, int]:  # noqa: B008 - it is immutable
    """The balances after these commits of a log, found from the events; on from what is known, if that is no more."""
    start = len(known.commits) if len(known.commits) <= len(commits) else 0
    balances = dict(known.balances) if start else {}
    for commit in commits[start:]:
        for record in commands_in(commit.body):
            _count(balances, record["events"])
    return balances


def agenda_after(commits: Sequence[Commit], known: Known = Known()) -> int:  # noqa: B008 - it is immutable
    """How many entries an agenda must have after these commits of a log; on from what is known, if that is no more."""
    start = len(known.commits) if len(known.commits) <= len(commits) else 0
    before = known if start else Known()
    parked, waiting = before.parked, dict(before.waiting)
    for commit in commits[start:]:
        parked += sum("effect" not in each for each in failed_in(commit.body))
        wrong_timers(waiting, commands_in(commit.body), commit, [])
    return parked + len(waiting) + owing_after(commits[start:], before.owing).on_agenda


def wrong_balances(found: Mapping[str, int], right: Mapping[str, int], whose: str) -> list[Problem]:
    """That balances are those that follow from the log; an account that is in one of them only is wrong too."""
    return [
        Problem(Kind.BALANCES, f"{account}: {whose} has {found.get(account)}, the log has {right.get(account)}")
        for account in sorted({*found, *right})
        if found.get(account) != right.get(account)
    ]


def wrong_cascades(
    records: Sequence[Mapping[str, Any]], failed: Sequence[Mapping[str, Any]], commit: int, problems: list[Problem]
) -> int:
    """See that each transfer is followed by its charge, or by a failure, in its own commit, and by nothing else.

    Args:
        records: the commands of a commit.
        failed: what it says has failed.
        commit: its number.
        problems: gets what is wrong.

    Returns:
        How many reactions have failed.
    """
    events = [event for record in records for event in record["events"]]
    withdrawn = [index for index, event in enumerate(events) if event["type"] == "Withdrawn"]
    charged = [index for index in withdrawn if is_charged(events[index]["amount"])]
    parked = [index for index in withdrawn if not is_charged(events[index]["amount"])]
    origins = [(each["origin"], each["events"]) for each in records if "by" in each.get("origin", ())]
    found = [(origin.get("event"), origin["by"], led_to) for origin, led_to in origins if "effect" not in origin]
    right = [(index, CHARGING, [{"type": "Charged", "account": FEES, "amount": 1}]) for index in charged]
    if found != right:
        problems.append(Problem(Kind.CASCADE, f"commit {commit}: {found}, not {right}"))
    reactions = [each for each in failed if "effect" not in each]
    if [(each.get("event"), each["by"], each["error"]) for each in reactions] != [
        (index, CHARGING, "ValueError") for index in parked
    ]:
        problems.append(Problem(Kind.CASCADE, f"commit {commit}: failed is {failed}, not that of events {parked}"))
    return len(parked)


def wrong_timers(
    waiting: dict[str, Waiting], records: Sequence[Mapping[str, Any]], commit: Commit, problems: list[Problem]
) -> None:
    """See that each charge sets a timer, and each timer is sent once, with what follows, not early, and not forgotten.

    Args:
        waiting: the timers that were set before, by name; becomes what waits after the commit.
        records: the commands of the commit.
        commit: as it is stored.
        problems: gets what is wrong.
    """
    for record in records:
        if "timer" not in record.get("origin", ()):
            continue
        name = record["origin"]["timer"]
        timer = waiting.pop(name, None)
        if timer is None:
            problems.append(Problem(Kind.TIMER, f"commit {commit.number}: {name} was sent, and did not wait"))
            continue
        if timer.due > commit.recorded_at:
            what = f"{name} was sent early, it was due at {timer.due}"
            problems.append(Problem(Kind.TIMER, f"commit {commit.number}: {what}"))
        if record["events"] != _settled(timer.of):
            problems.append(Problem(Kind.TIMER, f"commit {commit.number}: {name} led to {record['events']}"))
    timed, now = timers_in(commit.body), datetime.fromisoformat(commit.recorded_at)
    charges = [index for index, record in enumerate(records) if record["type"] == "Charge"]
    if [each.get("command") for each in timed] != charges:
        problems.append(Problem(Kind.TIMER, f"commit {commit.number}: charges {charges} set {timed}"))
    transfers = [each["amount"] for record in records for each in record["events"] if each["type"] == "Withdrawn"]
    for each, of in zip(timed, filter(is_charged, transfers), strict=False):
        waiting[each["set"]] = Waiting(each["due"], of)
        if datetime.fromisoformat(each["due"]) > now + SETTLED_AFTER:
            problems.append(Problem(Kind.TIMER, f"commit {commit.number}: {each['set']} is due at {each['due']}"))
    late = next((each.due for each in waiting.values()), "~")  # the first that was set
    if late < timestamp(now - _FORGOTTEN_AFTER):
        problems.append(Problem(Kind.TIMER, f"commit {commit.number}: the timer that was due at {late} is forgotten"))


def of_effects(where: str, wrong: Iterable[str]) -> list[Problem]:
    """What `effects` has found wrong, and where."""
    return [Problem(Kind.EFFECT, f"{where}: {each}") for each in wrong]


def forgotten(known: Known, found: int) -> list[Problem]:
    """What a log still owes, or has not sent, after an engine had all the time that it wanted, and had so many entries
    on its agenda then.
    """
    problems = [Problem(Kind.TIMER, f"{name} is forgotten: {timer}") for name, timer in known.waiting.items()]
    problems += of_effects("forgotten", map(str, known.owing.owed.values()))
    return problems + wrong_agenda(found, known.on_agenda)


def wrong_agenda(found: int, right: int) -> list[Problem]:
    """That the engine's agenda has as many entries as the log says have failed, or wait."""
    return [] if found == right else [Problem(Kind.AGENDA, f"the engine's agenda has {found}, the log says {right}")]


def _settled(of: int) -> list[dict[str, Any]]:
    """What a timer leads to, by the amount of the transfer that it is for."""
    billed = [{"type": "Billed", "account": FEES, "of": of}] if is_billed_later(of) else []
    return [{"type": "Settled", "account": FEES, "amount": 1}, *billed]


def _verified(head: Head, commit: Commit) -> list[dict[str, Any]]:
    Chain("read by sqlite3", head).check(commit)
    return commands_in(commit.body)


def _commands(commit: Commit, records: Iterable[Mapping[str, Any]]) -> Iterable[tuple[str, Place, _Events]]:
    position = commit.position - 1
    for record in records:
        events = record["events"]
        position += len(events)
        if "origin" in record:
            continue
        yield name_in_log(record), Place(commit.number, position, len(events)), events


def _count(balances: dict[str, int], events: _Events) -> None:
    for event in events:
        account = event["account"]
        if event["type"] == "Opened":
            balances[account] = 0
        elif "amount" in event:
            paid_in = event["type"] != "Withdrawn"
            balances[account] = balances.get(account, 0) + (event["amount"] if paid_in else -event["amount"])

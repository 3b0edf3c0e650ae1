"""A commit's body as it is written: format 2, by columns. What all commands have in common is written once, and what
none has not at all.

    {"events": [{"type": "Deposited", "account": "ann", "amount": 10}, …], "commands": 2, "type": "Deposit",
     "key": {"Deposited": "account"}, "ids": ["d-1", null], "payloads": ["a7e4…", null]}

Here: the members, how a body of them is made, and how it is read. `docs/reference/log.md` says what each means. Not
here: the form until 0.1 (`rows`), the commit around it (`commit`).

A member that a reader does not know is passed over, unless ``needs`` names a feature that it does not know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any, Generic, TypeAlias, TypeVar

import msgspec

from millstream.engine.application.messages import Metadata
from millstream.engine.application.validation import encode, union_of
from millstream.engine.commits.record import Failed, Origin, Owed, Record, Refused, Settled, Tenure, Timed

__all__ = [
    "AGENDA",
    "FEATURES",
    "ColumnBody",
    "Columns",
    "Sheet",
    "UnknownFeature",
    "column_reader",
    "needs_of",
    "require_features",
    "text_bytes",
]

E = TypeVar("E")
_Texts: TypeAlias = list[str | None] | None

#: In ``needs`` where a commit says what is owed, parked or settled: who passes that over would forget it.
AGENDA = "agenda"
#: What ``needs`` may name: the features that this millstream understands.
FEATURES: frozenset[str] = frozenset((AGENDA,))


class UnknownFeature(Exception):
    """A body needs what this millstream does not know; its text is the features' names."""


class Columns(msgspec.Struct, Generic[E], omit_defaults=True, gc=False):
    """The members of a body; see `docs/reference/log.md`. A column has a place for each command."""

    events: list[E]
    commands: int
    type: str | None = None
    types: list[str] | None = None
    of: list[int] | None = None
    key: dict[str, str] = {}
    keys: list[str | bool | None] | None = None
    ids: _Texts = None
    payloads: _Texts = None
    answers: list[msgspec.Raw] | None = None
    actors: _Texts = None
    correlations: _Texts = None
    causations: _Texts = None
    traces: _Texts = None
    extras: list[dict[str, str] | None] | None = None
    origins: list[Origin] | None = None
    refused: list[Refused] | None = None
    failed: list[Failed] | None = None
    owed: list[Owed] | None = None
    settled: list[Settled] | None = None
    timers: list[Timed] | None = None
    owes: dict[str, list[str]] | None = None
    tenure: Tenure | None = None
    needs: list[str] | None = None


#: Those with a place for each command.
_PER_COMMAND = (
    "types", "keys", "ids", "payloads", "answers", "actors", "correlations", "causations", "traces", "extras",
)  # fmt: skip


#: `needs` comes last in a body.
_NEEDS_WITHIN = 200


class _Needs(msgspec.Struct, gc=False):
    needs: list[str] = []


_read_needs = msgspec.json.Decoder(_Needs).decode


def needs_of(body: bytes) -> tuple[str, ...]:
    """The features that a reader of a body made by `Sheet` must know."""
    if body.find(b'"needs":[', -_NEEDS_WITHIN) < 0:  # most have none, and this is asked of each
        return ()
    return tuple(_read_needs(body).needs)


def require_features(needs: Iterable[str] | None) -> None:
    """See that all of these are known.

    Raises:
        UnknownFeature: one is not.
    """
    unknown = sorted(set(needs or ()) - FEATURES)
    if unknown:
        raise UnknownFeature(", ".join(map(repr, unknown)))


# Writing.


def text_bytes(text: str | None) -> int:
    """How many bytes a text has as JSON, with what stands between it and the next one."""
    return 0 if text is None else len(encode(text)) + 1


class Sheet:
    """The columns of a commit in the making: a place for each command, as far as any has something to say.

    ``types`` has one entry for each command that stands; the deciding side appends to it. All else is noted of the last
    one, and of few.
    """

    __slots__ = ("_columns", "_ids", "_lists", "_payloads", "entries_bytes", "given_bytes", "types")

    def __init__(self) -> None:
        #: The type of each command.
        self.types: list[str] = []
        #: How many bytes what was added has as JSON.
        self.entries_bytes = 0
        #: How many bytes ids, metadata and keys have as JSON at most.
        self.given_bytes = 0
        self._columns: dict[str, list[Any]] = {}
        self._lists: dict[str, list[Any]] = {}
        # By themselves, as they are there for each command or for none: 0.4 µs less.
        self._ids: list[str | None] = []
        self._payloads: list[str | None] = []

    def note(self, column: str, value: Any, usual: Any = None) -> None:
        """What is to be kept of the last command. All before it of which nothing was noted are as usual."""
        values = self._columns.setdefault(column, [])
        values.extend([usual] * (len(self.types) - 1 - len(values)))
        values.append(value)

    def note_key(self, key: str | None) -> None:
        """The last command's key, where the first of its events does not say it."""
        self.note("keys", False if key is None else key)
        self.given_bytes += text_bytes(key)

    def add(self, entry: Origin | Refused | Failed | Owed | Settled | Timed) -> None:
        """What the engine has to say of a command, a reaction, a timer, or an effect."""
        self._lists.setdefault(_LISTS[type(entry)], []).append(entry)
        self.entries_bytes += len(encode(entry)) + 1

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to write."""
        return not self.types and not self._lists

    @property
    def traces(self) -> list[str]:
        """What commands said of where they stand in a distributed trace, each once."""
        return list(dict.fromkeys(trace for trace in self._columns.get("traces", ()) if trace is not None))

    def note_id(self, command_id: str, payload: str) -> None:
        """The last command's id, and its digest."""
        ids, payloads = self._ids, self._payloads
        before = len(self.types) - 1
        if len(ids) != before:
            missing = [None] * (before - len(ids))
            ids += missing
            payloads += missing
        ids.append(command_id)
        payloads.append(payload)
        self.given_bytes += 6 * len(command_id) + len(payload) + 6

    def note_metadata(self, metadata: Metadata) -> None:
        """What the last command's caller gave with it."""
        if metadata.actor is not None:
            self.note("actors", metadata.actor)
        if metadata.correlation is not None:
            self.note("correlations", metadata.correlation)
        if metadata.causation is not None:
            self.note("causations", metadata.causation)
        if metadata.trace is not None:
            self.note("traces", metadata.trace)
        if metadata.extra is not None:
            self.note("extras", metadata.extra)
        self.given_bytes += len(encode(metadata))

    def body(
        self,
        chunks: Sequence[bytes],
        key: dict[str, str],
        tenure: Tenure | None = None,
        owes: dict[str, list[str]] | None = None,
    ) -> bytes:
        """The body.

        Args:
            chunks: the events, encoded already, as JSON arrays of some of them each.
            key: by type of event, the member that is its key.
            tenure: said in it, if given.
            owes: by type of event, the effects that are owed for each of them, if any is.
        """
        types, columns, of = self.types, dict(self._columns), None
        if self._ids:
            columns |= {"ids": self._ids, "payloads": self._payloads}
        count = len(types)
        counts = columns.pop("counts", None)
        if counts is not None:
            counts = counts + [1] * (count - len(counts))
            of = [index for index, events in enumerate(counts) for _ in range(events)]
        padded = {name: values + [None] * (count - len(values)) for name, values in columns.items()}
        keeps = owes or not self._lists.keys().isdisjoint(_AGENDA_LISTS)
        needs = [AGENDA] if keeps or any(each.timer for each in self._lists.get("origins", ())) else None
        alike = count > 0 and types.count(types[0]) == count
        rest = encode(
            Columns(
                events=[],
                commands=count,
                type=types[0] if alike else None,
                types=None if alike or not count else types,
                of=of,
                key=key,
                owes=owes,
                tenure=tenure,
                needs=needs,
                **padded,
                **self._lists,
            )
        )
        return b'{"events":[%b],%b' % (b",".join([chunk[1:-1] for chunk in chunks if len(chunk) > 2]), rest[_BEFORE:])


_BEFORE = len(b'{"events":[],')
_LISTS: Mapping[type[Any], str] = {
    Origin: "origins",
    Refused: "refused",
    Failed: "failed",
    Owed: "owed",
    Settled: "settled",
    Timed: "timers",
}
_AGENDA_LISTS = ("failed", "owed", "settled", "timers")


# Reading.


class _EventKeys:
    """Finds the key of each event of a body, by the member that the body says it is.

    Args:
        events: the classes that events are read as.
    """

    def __init__(self, events: Sequence[type[Any]]) -> None:
        self._classes: Mapping[str, type[Any]] = {
            str(event.__struct_config__.tag): event for event in events if hasattr(event, "__struct_config__")
        }
        self._getters: dict[tuple[str, str], Callable[[Any], str | None] | None] = {}

    def find(self, body: bytes, columns: Columns[Any]) -> Sequence[str | None]:
        """The key of each event, None for one that has none."""
        events, fields = columns.events, columns.key
        if not fields:
            return [None] * len(events)
        getters = {}
        for tag, field in fields.items():
            getter = self._getter(tag, field)
            if getter is None:
                return _keys_in(body, fields)
            getters[self._classes[tag]] = getter
        kinds = set(map(type, events))
        if len(kinds) == 1 and (only := getters.get(next(iter(kinds)))) is not None:
            return list(map(only, events))
        return [getters.get(type(event), _no_key)(event) for event in events]

    def _getter(self, tag: str, field: str) -> Callable[[Any], str | None] | None:
        """What gets the key from an event of that type; None if the class does not have it, as a retired one may."""
        name = (tag, field)
        if name not in self._getters:
            cls = self._classes.get(tag)
            there = () if cls is None else cls.__struct_encode_fields__
            self._getters[name] = attrgetter(cls.__struct_fields__[there.index(field)]) if field in there else None  # type: ignore[union-attr]
        return self._getters[name]


class _Plain(msgspec.Struct, gc=False):
    events: list[dict[str, Any]]


_read_plain = msgspec.json.Decoder(_Plain).decode


class _RawEvents(msgspec.Struct, gc=False):
    events: list[msgspec.Raw]


_read_raw = msgspec.json.Decoder(_RawEvents).decode


def _keys_in(body: bytes, fields: Mapping[str, str]) -> Sequence[str | None]:
    """The same from the JSON: 10 times as slow, and true of whatever class."""
    found = (event.get(fields.get(str(event.get("type")), "")) for event in _read_plain(body).events)
    return [key if type(key) is str else None for key in found]


def _no_key(_: Any) -> None:
    return None


class ColumnBody(Generic[E]):
    """The `Body` of such a commit."""

    __slots__ = (
        "_body",
        "_columns",
        "_keys",
        "events",
        "failed",
        "fired",
        "has_ids",
        "needs",
        "owed",
        "owes",
        "settled",
        "tenure",
        "timers",
    )

    def __init__(self, body: bytes, columns: Columns[E], keys: _EventKeys) -> None:
        self._body = body
        self._columns = columns
        self._keys = keys
        self.events = columns.events
        self.tenure = columns.tenure
        self.has_ids = columns.ids is not None
        self.failed: Sequence[Failed] = columns.failed or ()
        self.owed: Sequence[Owed] = columns.owed or ()
        self.settled: Sequence[Settled] = columns.settled or ()
        self.timers: Sequence[Timed] = columns.timers or ()
        self.fired: Sequence[Origin] = [each for each in columns.origins or () if each.timer is not None]
        self.needs: Sequence[str] = columns.needs or ()
        self.owes: Mapping[str, Sequence[str]] = columns.owes or {}

    def event_keys(self) -> Sequence[str | None]:
        """The key of each event, from the event itself."""
        return self._keys.find(self._body, self._columns)

    def event_text(self, index: int) -> str:
        """The JSON of an event, as it is stored."""
        return bytes(_read_raw(self._body).events[index]).decode()

    def event_texts(self) -> Sequence[str]:
        """The texts of all events."""
        return [bytes(event).decode() for event in _read_raw(self._body).events]

    def records(self) -> Iterator[Record[E]]:
        """Made from the columns."""
        columns, keys, end, count = self._columns, self.event_keys(), 0, self._columns.commands
        nothing: list[None] = [None] * count
        told = zip(
            columns.ids or nothing,
            columns.payloads or nothing,
            columns.actors or nothing,
            columns.correlations or nothing,
            columns.causations or nothing,
            columns.traces or nothing,
            columns.extras or nothing,
            strict=True,
        )
        origins = {each.command: each for each in columns.origins or ()}
        refused = {each.command: each for each in columns.refused or ()}
        parked = [each.event for each in self.failed if each.event is not None]
        for index, (command_id, payload, actor, correlation, causation, trace, extra) in enumerate(told):
            start = end
            if columns.of is None:
                end += 1
            else:
                while end < len(columns.of) and columns.of[end] == index:
                    end += 1
            own = None if columns.keys is None else columns.keys[index]
            theirs = keys[start:end]
            key = None if own is False else str(own) if own is not None else theirs[0] if theirs else None
            yield Record(
                columns.type if columns.types is None else columns.types[index],  # type: ignore[arg-type]
                key,
                command_id,
                payload,
                actor,
                correlation,
                causation,
                start,
                None if theirs.count(key) == end - start else list(theirs),
                columns.events[start:end],
                trace,
                extra,
                origins.get(index),
                refused.get(index),
                sum(start <= place < end for place in parked) if parked else 0,
                _answer_at(columns.answers, index),
            )


def _answer_at(answers: Sequence[msgspec.Raw] | None, index: int) -> bytes | None:
    """A copy, as what was read keeps the whole body."""
    if answers is None:
        return None
    answer = bytes(answers[index])
    return None if answer == b"null" else answer


def column_reader(events: Sequence[type[Any]]) -> Callable[[bytes], ColumnBody[Any]]:
    """The function that reads such a body, its events checked against ``events``.

    It raises msgspec.DecodeError when the body is not of this shape, and UnknownFeature.
    """
    decode = msgspec.json.Decoder(Columns[union_of(events)]).decode  # type: ignore[misc]
    keys = _EventKeys(events)

    def read(body: bytes) -> ColumnBody[Any]:
        columns = decode(body)
        if columns.needs is not None:
            require_features(columns.needs)
        if problem := _problem(columns):
            raise msgspec.ValidationError(problem)
        return ColumnBody(body, columns, keys)

    return read


def _problem(columns: Columns[Any]) -> str | None:
    """What is wrong with the columns' lengths, or None."""
    commands, of = columns.commands, columns.of
    if commands < 0 or (columns.ids is None) != (columns.payloads is None):
        return "`commands` is no number of them, or there are `ids` without `payloads`"
    if columns.answers is not None and columns.ids is None:
        return "there are `answers` without `ids`"
    for name in _PER_COMMAND:
        values = getattr(columns, name)
        if values is not None and len(values) != commands:
            return f"`{name}` has {len(values):,} places for {commands:,} commands"
    if columns.type is None and columns.types is None and commands:
        return "it does not say of which type its commands are"
    if of is None:
        if len(columns.events) != commands:
            return f"it has {len(columns.events):,} events of {commands:,} commands, and does not say whose each is"
    elif len(of) != len(columns.events) or sorted(of) != of or (of and not 0 <= of[0] <= of[-1] < commands):
        return "`of` does not say for each event which command it is of, in order"
    if columns.keys is not None and True in columns.keys:
        return "`keys` has a place that is neither a key nor null nor false"
    return _problem_beside(columns)


def _problem_beside(columns: Columns[Any]) -> str | None:
    """What is wrong with what the engine says beside the columns, or None."""
    commands, events = columns.commands, len(columns.events)
    for named in (*(columns.origins or ()), *(columns.refused or ())):
        if not 0 <= named.command < commands:
            return f"`origins` or `refused` name command {named.command:,} of {commands:,}"
    for place in (*(columns.origins or ()), *(columns.failed or ()), *(columns.timers or ())):
        by_itself = (place.timer, place.effect) if not isinstance(place, Timed) else (place.command, None)
        if [*by_itself, place.event, place.at].count(None) != 3:
            return (
                "`origins`, `failed` and `timers` name a timer, an effect, or a command; or the place of an event in "
                "this commit, or the position of an earlier one"
            )
    for timed in columns.timers or ():
        if timed.command is not None and not 0 <= timed.command < commands:
            return f"`timers` name command {timed.command:,} of {commands:,}"
        is_set = timed.set is not None
        if is_set == (timed.cancelled is not None) or is_set != (timed.due is not None and len(bytes(timed.what)) > 0):
            return "one of `timers` is neither set, with `due` and `what`, nor cancelled"
    for caused in (*(columns.origins or ()), *(columns.failed or ()), *(columns.owed or ()), *(columns.timers or ())):
        if caused.event is not None and not 0 <= caused.event < events:
            return f"event {caused.event:,} of {events:,} is said to have led to something"
    return None

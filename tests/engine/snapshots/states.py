"""A state with a field of every kind that a snapshot can hold, values for it, and a look that misses no difference."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias, TypedDict
from uuid import UUID

import msgspec
from hypothesis import strategies as st

from millstream.engine import Event, Key
from millstream.views import View, applies


class Happened(Event):
    key: Key


class Also(Event):
    key: Key


class Colour(Enum):
    RED = "red"
    GREEN = "green"


class Point(msgspec.Struct, frozen=True):
    x: int
    y: float = 0.0


class Account(msgspec.Struct):
    owner: str
    balance: int = 0
    opened: datetime | None = None
    tags: list[str] = []


class Circle(msgspec.Struct, frozen=True, tag=True):
    radius: float


class Square(msgspec.Struct, frozen=True, tag=True):
    side: int


class Lean(msgspec.Struct, frozen=True, omit_defaults=True, array_like=True, rename="camel"):
    first_name: str = "ann"
    last_name: str | None = None


class Node(msgspec.Struct):
    name: str
    children: list[Node] = []


@dataclass
class Plain:
    size: int
    colour: Colour


class Pair(NamedTuple):
    left: int
    right: str


class Options(TypedDict, total=False):
    verbose: bool
    level: int


class Everything(View):
    counts: dict[str, int] = {}
    by_pair: dict[tuple[int, str], Point] = {}
    by_point: dict[Point, float] = {}
    accounts: dict[str, Account] = {}
    names: list[str] = []
    blobs: dict[bytes, bytes] = {}
    groups: dict[str, set[int]] = {}
    seen: set[str] = set()
    nested: dict[str, list[dict[int, Point]]] = {}
    moments: list[datetime] = []
    by_moment: dict[datetime, time | None] = {}
    started: dict[str, int] = msgspec.field(default_factory=lambda: {"one": 1, "two": 2})
    queue: list[int] = msgspec.field(default_factory=lambda: [1, 2, 3])
    either: int | str | None = 7
    shape: Circle | Square | None = None
    maybe: Annotated[Point | None, msgspec.Meta(description="perhaps")] = None
    lean: list[Lean] = []
    tree: Node = msgspec.field(default_factory=lambda: Node("root"))
    free: Any = None
    free_dict: dict = {}  # type: ignore[type-arg]
    ratio: float = 0.5
    colour: Colour = Colour.RED
    mode: Literal["on", "off", 3] = "off"
    fixed: frozenset[int] = frozenset()
    row: tuple[int, ...] = ()
    text: str = "a"
    raw: bytes = b"b"
    days: dict[date, timedelta] = {}
    prices: dict[UUID, Decimal] = {}
    plains: list[Plain] = []
    pairs: list[Pair] = []
    options: Options = {}
    größe: dict[str, int] = {}  # noqa: PLC2401 - any identifier may name a field
    flag: bool = False

    @applies
    def happened(self, event: Happened) -> None: ...


class Wide(View):
    """Every collection that is written in several pieces."""

    counts: dict[str, int] = {}
    names: list[str] = []
    seen: set[int] = set()

    @applies
    def happened(self, event: Happened) -> None: ...


def form(value: Any) -> Any:
    """A value with everything that can be told of it: classes, the order of entries, offsets, and NaN as itself."""
    kind = type(value).__name__
    if isinstance(value, msgspec.Struct):
        return kind, [(name, form(getattr(value, name))) for name in value.__struct_fields__]
    if is_dataclass(value) and not isinstance(value, type):
        return kind, [form(getattr(value, field.name)) for field in fields(value)]
    if isinstance(value, dict):
        return kind, [(form(key), form(each)) for key, each in value.items()]
    if isinstance(value, set | frozenset):
        return kind, sorted(repr(form(each)) for each in value)
    if isinstance(value, list | tuple):
        return kind, [form(each) for each in value]
    return kind, repr(value) if isinstance(value, float | bytes | Decimal) else str(value)


OFFSETS: st.SearchStrategy[Any] = (
    st.none() | st.just(UTC) | st.integers(-839, 839).map(lambda minutes: timezone(timedelta(minutes=minutes)))
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
INTS = st.integers(-(2**63), 2**64 - 1)
FLOATS = st.floats()
NUMBERS = FLOATS | INTS
MOMENTS = st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=OFFSETS).map(  # noqa: DTZ001 - naive ones, too
    lambda moment: moment.replace(fold=0)
)
TIMES = st.times(timezones=OFFSETS).map(lambda moment: moment.replace(fold=0))
POINTS = st.builds(Point, INTS, FLOATS)
SOLID = st.builds(Point, INTS, st.floats(allow_nan=False))
JSON: TypeAlias = st.SearchStrategy[Any]
FREE: JSON = st.recursive(
    st.none() | st.booleans() | INTS | FLOATS | TEXTS | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS | INTS, inner, max_size=3),
    max_leaves=5,
)
NODES = st.recursive(
    st.builds(Node, TEXTS), lambda inner: st.builds(Node, TEXTS, st.lists(inner, max_size=3)), max_leaves=5
)


def several(keys: st.SearchStrategy[Any], values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.dictionaries(keys, values, max_size=8)


def lists(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(values, max_size=8)


FIELDS: dict[str, st.SearchStrategy[Any]] = dict(  # noqa: C408 - it reads like the fields above
    counts=several(TEXTS, INTS),
    by_pair=several(st.tuples(INTS, TEXTS), POINTS),
    by_point=several(SOLID, NUMBERS),
    accounts=several(TEXTS, st.builds(Account, TEXTS, INTS, st.none() | MOMENTS, lists(TEXTS))),
    names=lists(TEXTS),
    blobs=several(st.binary(max_size=5), st.binary(max_size=40)),
    groups=several(TEXTS, st.sets(INTS, max_size=5)),
    seen=st.sets(TEXTS, max_size=20),
    nested=several(TEXTS, lists(several(INTS, POINTS))),
    moments=lists(MOMENTS),
    by_moment=several(MOMENTS, st.none() | TIMES),
    started=several(TEXTS, INTS),
    queue=lists(INTS),
    either=st.none() | INTS | TEXTS,
    shape=st.none() | st.builds(Circle, FLOATS) | st.builds(Square, INTS),
    maybe=st.none() | POINTS,
    lean=lists(st.builds(Lean, TEXTS, st.none() | TEXTS)),
    tree=NODES,
    free=FREE,
    free_dict=st.dictionaries(TEXTS, FREE, max_size=3),
    ratio=NUMBERS,
    colour=st.sampled_from(Colour),
    mode=st.sampled_from(["on", "off", 3]),
    fixed=st.frozensets(INTS, max_size=5),
    row=lists(INTS).map(tuple),
    text=TEXTS,
    raw=st.binary(max_size=20),
    days=several(st.dates(), st.timedeltas()),
    prices=several(st.uuids(), st.decimals(allow_nan=False)),
    plains=lists(st.builds(Plain, INTS, st.sampled_from(Colour))),
    pairs=lists(st.builds(Pair, INTS, TEXTS)),
    options=st.fixed_dictionaries({}, optional={"verbose": st.booleans(), "level": INTS}),
    größe=several(TEXTS, INTS),
    flag=st.booleans(),
)


@st.composite
def states(draw: st.DrawFn) -> Everything:
    """A state of which some fields are not as they begin."""
    names = draw(st.lists(st.sampled_from(sorted(FIELDS)), min_size=1, max_size=4, unique=True))
    return Everything(**{name: draw(FIELDS[name]) for name in names})

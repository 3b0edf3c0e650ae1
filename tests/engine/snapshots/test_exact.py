"""States that would come back from a snapshot as something else are refused, and the error says what is wrong."""

from __future__ import annotations

import types
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Annotated, Any, Literal, NamedTuple, TypedDict
from zoneinfo import ZoneInfo

import msgspec
import pytest

from millstream.engine import App, Command, DefinitionError, Event
from millstream.engine.snapshots.pieces import add_piece, pieces_of
from millstream.handlers import WriteModel, applies, handles
from millstream.views import View
from tests.engine.snapshots.states import form


class Do(Command):
    pass


class Done(Event):
    pass


class Doer(WriteModel):
    @handles
    def do(self, command: Do) -> Iterator[Done]:
        yield Done()

    @applies
    def done(self, event: Done) -> None: ...


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    LOW = 1


class Name(StrEnum):
    ANN = "ann"


class Frozen(msgspec.Struct, frozen=True):
    size: int
    tags: list[str] = []


class Solid(msgspec.Struct, frozen=True):
    size: int
    tags: tuple[str, ...] = ()


class Special(Frozen, frozen=True):
    more: int = 0


class Mutable(msgspec.Struct):
    size: int = 0


class Node(msgspec.Struct):
    children: list[Node] = []


class Unset(msgspec.Struct):
    size: int | msgspec.UnsetType = msgspec.UNSET


@dataclass
class Plain:
    size: int


@dataclass(frozen=True)
class FrozenPlain:
    size: int


class Pair(NamedTuple):
    left: int
    right: str


class Options(TypedDict, total=False):
    level: int


def state_of(annotation: Any, value: Any) -> msgspec.Struct:
    cls = msgspec.defstruct("State", [("field", annotation, msgspec.field(default=None))])
    state: msgspec.Struct = cls(value)
    return state


BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("annotation", "value", "problem"),
    [
        (dict[str, int], defaultdict(int, a=1), "a value of type defaultdict, where dict is declared"),
        (dict[str, int], OrderedDict(a=1), "a value of type OrderedDict, where dict is declared"),
        (dict[str, int], Counter("a"), "a value of type Counter, where dict is declared"),
        (
            dict[str, dict[str, int]],
            {"a": defaultdict(int, b=1)},
            "a value of type defaultdict, where dict is declared",
        ),
        (dict[str, list[int]], {"a": (1, 2)}, "a value of type tuple, where list is declared"),
        (dict[str, int], {"a": True}, "a value of type bool, where int is declared"),
        (dict[str, int], {1: 1}, "a value of type int, where str is declared"),
        (dict[str, int], {Name.ANN: 1}, "a value of type Name, where str is declared"),
        (list[int], [1, Level.LOW], "a value of type Level, where int is declared"),
        (list[int], [1, 2.5], "a value of type float, where int is declared"),
        (int | None, "a", "a value of type str, where None or int is declared"),
        (Sequence[int], (1, 2), "a value of type tuple, where list is declared"),
        (Mapping[str, int], OrderedDict(a=1), "a value of type OrderedDict, where dict is declared"),
        (set[int], frozenset([1]), "a value of type frozenset, where set is declared"),
        (tuple[int, str], (1, 2), "a value of type int, where str is declared"),
        (tuple[int, str], (1, "a", 2), "a tuple of another length than 2"),
        (tuple[int, ...], (1, "a"), "a value of type str, where int is declared"),
        (list[Frozen], [Special(1)], "a value of type Special, where Frozen is declared"),
        (list[Frozen], [Frozen(1, ("a",))], "a value of type tuple, where list is declared"),  # type: ignore[arg-type]
        (Frozen | None, Special(1), "a value of type Special, where Frozen or None is declared"),
        (list[Plain], [Plain("a")], "a value of type str, where int is declared"),  # type: ignore[arg-type]
        (list[Pair], [(1, "a")], "a value of type tuple, where Pair is declared"),
        (list[Pair], [Pair("a", "a")], "a value of type str, where int is declared"),  # type: ignore[arg-type]
        (Options, {"level": "a"}, "a value of type str, where int is declared"),
        (Options, {"levels": 1}, "keys that Options does not declare"),
        (Literal["a", "b"], 3, "a value of type int, where str is declared"),
        (Colour, "red", "a value of type str, where Colour is declared"),
        (Any, (1, 2), "a value of type tuple, where Any (what JSON has, and bytes) is declared"),
        (Any, {"a": {1, 2}}, "a value of type set, where Any (what JSON has, and bytes) is declared"),
        (Any, {"a": [{"b": [Frozen(1)]}]}, "a value of type Frozen, where Any (what JSON has, and bytes) is declared"),
        (Any, {(1, 2): 3}, "a value of type tuple, where Any (what JSON has, and bytes) is declared"),
        (
            Any,
            datetime(2026, 1, 1, tzinfo=UTC),
            "a value of type datetime, where Any (what JSON has, and bytes) is declared",
        ),
        (dict, {"a": Decimal(1)}, "a value of type Decimal, where Any (what JSON has, and bytes) is declared"),
        (
            list[datetime],
            [datetime(2026, 7, 1, tzinfo=BERLIN)],
            "a time in the zone Europe/Berlin, of which only the offset",
        ),
        (datetime | None, datetime(2026, 7, 1, tzinfo=BERLIN), "a time in the zone Europe/Berlin"),
        (datetime, datetime(2026, 7, 1, tzinfo=timezone(timedelta(seconds=30))), "a time in the zone UTC+00:00:30"),
        (time, time(1, tzinfo=BERLIN), "a time in the zone Europe/Berlin"),
        (msgspec.Raw, msgspec.Raw(b"1"), "what a snapshot can't hold (Raw)"),
    ],
)
def test_what_would_come_back_as_something_else_is_refused(annotation: Any, value: Any, problem: str) -> None:
    with pytest.raises(TypeError) as raised:
        list(pieces_of(state_of(annotation, value)))
    assert str(raised.value).startswith(f"State.field holds {problem}")


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (dict[str, float], {"a": 1.5, "b": float("nan")}),
        (list[Unset], [Unset(), Unset(3)]),
        (int | str | None, None),
        (float | str, 2.5),
        (Literal["a", 1] | None, 1),
        (list[datetime | None], [None, datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=-3)))]),
        (list[Mutable], [Mutable(1), Mutable(1)]),
        (tuple[int, str] | None, (1, "a")),
        (bytearray, bytearray(b"a")),
        (dict[str, dict[str, list[Frozen]]], {"a": {"b": [Frozen(1, ["c"])]}}),
        (Any, {"a": [1, 2.5, None, True, "b", b"c", {"d": []}]}),
    ],
)
def test_what_comes_back_as_it_is_is_taken(annotation: Any, value: Any) -> None:
    state = state_of(annotation, value)
    fresh = type(state)()
    for piece in pieces_of(state):
        add_piece(fresh, piece)
    assert form(fresh) == form(state)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (float, 0),
        (dict[str, float], {"a": 1, "b": 2**53 + 1, "c": 1.5, "d": -1}),
        (list[float | None], [2**60, None, 0.0]),
        (dict[str, tuple[float, ...]], {"a": (1, 2.0)}),
        (set[float], {3, 4.5}),
    ],
)
def test_an_int_where_a_field_says_float_comes_back_as_the_int_that_it_was(annotation: Any, value: Any) -> None:
    state = state_of(annotation, value)
    fresh: Any = type(state)()
    for piece in pieces_of(state):
        add_piece(fresh, piece)
    assert form(fresh) == form(state)


class Balance(msgspec.Struct):
    amount: float = 0


class Rates(TypedDict):
    rate: float


@pytest.mark.parametrize(
    ("annotation", "value"), [(list[Balance], [Balance()]), (Balance, Balance(3)), (list[Rates], [{"rate": 1}])]
)
def test_an_int_where_a_class_says_float_is_refused_because_the_class_would_read_a_float(
    annotation: Any, value: Any
) -> None:
    with pytest.raises(
        TypeError, match=r"State.field holds an int where float is declared, in a class: begin with 0.0"
    ):
        list(pieces_of(state_of(annotation, value)))


class TwoIndexes(msgspec.Struct):
    by_id: dict[int, Mutable] = {}
    open: list[Mutable] = []


class TwoPlainIndexes(msgspec.Struct):
    by_id: dict[int, Plain] = {}
    last: Plain | None = None


class TwoFrozenIndexes(msgspec.Struct):
    by_id: dict[int, Solid] = {}
    last: Solid | None = None
    plain: list[FrozenPlain] = []
    again: list[FrozenPlain] = []


class Trees(msgspec.Struct):
    roots: list[Node] = []


def test_one_object_that_may_change_and_is_held_twice_is_refused_because_it_would_come_back_as_two() -> None:
    shared = Mutable(1)
    with pytest.raises(TypeError, match=r"TwoIndexes.open holds one Mutable that is held in another place, too"):
        list(pieces_of(TwoIndexes({1: shared, 2: Mutable(2)}, [Mutable(3), shared])))
    with pytest.raises(TypeError, match=r"TwoIndexes.open holds one Mutable that is held in another place, too"):
        list(pieces_of(TwoIndexes({}, [shared, shared])))
    with pytest.raises(TypeError, match=r"TwoPlainIndexes.last holds one Plain that is held in another place, too"):
        list(pieces_of(TwoPlainIndexes({1: (plain := Plain(1))}, plain)))
    leaf = Node()
    with pytest.raises(TypeError, match=r"Trees.roots holds one Node that is held in another place, too"):
        list(pieces_of(Trees([Node([leaf]), leaf])))


class Fixed(NamedTuple):
    items: list[int]


class Pages(msgspec.Struct):
    current: list[int] = []
    pages: dict[str, list[int]] = {}
    raw: dict[str, bytearray] = {}
    free: Any = None
    fixed: dict[str, Fixed] = {}
    frozen: list[Frozen] = []
    rows: dict[str, tuple[list[int], ...]] = {}
    maybe: dict[str, Mutable | None] = {}


LIST: list[int] = [1]
RAW, ONE = bytearray(b"a"), Mutable(1)
FIXED, FROZEN, ROW = Fixed([1]), Frozen(1, ["a"]), ([1], [2])


@pytest.mark.parametrize(
    ("state", "place"),
    [
        (Pages(current=LIST, pages={"a": LIST}), "pages holds one list"),
        (Pages(pages={"a": LIST, "b": [2], "c": LIST}), "pages holds one list"),
        (Pages(raw={"a": RAW, "b": RAW}), "raw holds one bytearray"),
        (Pages(free={"a": LIST, "b": LIST}), "free holds one list"),
        (Pages(free=[{"a": LIST}, [LIST]]), "free holds one list"),
        (Pages(current=LIST, free={"a": [LIST]}), "free holds one list"),
        (Pages(fixed={"a": FIXED, "b": FIXED}), "fixed holds one (Fixed|list)"),
        (Pages(frozen=[FROZEN, FROZEN]), "frozen holds one (Frozen|list)"),
        (Pages(rows={"a": ROW, "b": ROW}), "rows holds one (tuple|list)"),
        (Pages(maybe={"a": ONE, "b": None, "c": ONE}), "maybe holds one Mutable"),
    ],
)
def test_whatever_may_change_and_is_held_twice_in_one_field_or_in_two_is_refused(state: Pages, place: str) -> None:
    with pytest.raises(TypeError, match=rf"Pages.{place} that is held in another place, too, and may change"):
        list(pieces_of(state))


def test_what_is_held_twice_is_found_however_far_apart_the_two_are() -> None:
    for first, second in ((0, 40_000), (5, 39_999), (20_000, 20_001)):
        pages = {f"{number:,}": [number] for number in range(40_001)}
        pages[f"{second:,}"] = pages[f"{first:,}"]
        with pytest.raises(TypeError, match=r"Pages.pages holds one list"):
            list(pieces_of(Pages(pages=pages)))
    frozen = [Frozen(number, ["a"]) for number in range(30_000)]
    with pytest.raises(TypeError, match=r"Pages.frozen holds one (Frozen|list)"):
        list(pieces_of(Pages(frozen=[*frozen, frozen[0]])))


def test_what_others_hold_beside_the_state_is_not_held_twice_by_it() -> None:
    pages = {f"{number:,}": [number] for number in range(1_000)}
    others = [list(pages.values()), dict(pages)]
    assert list(pieces_of(Pages(pages=pages, rows={"a": (), "b": ()})))
    assert len(others) == 2


def test_equal_objects_and_objects_that_never_change_may_be_held_twice() -> None:
    assert len(list(pieces_of(TwoIndexes({1: Mutable(1)}, [Mutable(1)])))) == 2
    solid, plain = Solid(1, ("a",)), FrozenPlain(1)
    assert len(list(pieces_of(TwoFrozenIndexes({1: solid, 2: solid}, solid, [plain], [plain])))) == 4
    assert len(list(pieces_of(Trees([Node([Node()]), Node([Node()])])))) == 1


class Doubling(msgspec.Struct):
    size: int = 1

    def __post_init__(self) -> None:
        self.size *= 2


class Settling(msgspec.Struct):
    size: int = 1

    def __post_init__(self) -> None:
        self.size = max(self.size, 0)


def test_a_class_that_changes_what_it_is_made_of_is_refused_unless_it_leaves_it_as_it_is() -> None:
    for annotation, value in ((Doubling, Doubling()), (dict[str, Doubling], {"a": Doubling()})):
        with pytest.raises(TypeError, match=r"State.field holds what comes back as something else: .*__post_init__"):
            list(pieces_of(state_of(annotation, value)))
    with pytest.raises(TypeError, match="comes back as something else"):
        list(pieces_of(state_of(list[tuple[Doubling, set[int]]], [(Doubling(), {1, 2, 3})])))
    assert list(pieces_of(state_of(list[Settling], [Settling(3)])))


class Open(msgspec.Struct, dict=True):
    size: int = 0


def test_what_stands_beside_the_fields_of_an_object_is_refused() -> None:
    opened, plain = Open(), Plain(1)
    assert list(pieces_of(state_of(list[Open], [opened])))
    opened.more = 3  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match=r"State.field holds a Open with more, which it does not declare"):
        list(pieces_of(state_of(list[Open], [opened])))
    plain.extra = 3  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match=r"State.field holds a Plain with extra, which it does not declare"):
        list(pieces_of(state_of(dict[str, Plain], {"a": plain})))
    with pytest.raises(TypeError, match=r"Open has more, which it does not declare; .* make it a field"):
        list(pieces_of(opened))


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (datetime, datetime(2026, 10, 25, 2, 30, fold=1)),  # noqa: DTZ001 - a naive one
        (list[datetime], [datetime(2026, 10, 25, 2, 30, tzinfo=UTC, fold=1)]),
        (time | None, time(2, 30, fold=1)),
    ],
)
def test_a_time_that_is_the_second_of_its_name_is_refused(annotation: Any, value: Any) -> None:
    with pytest.raises(TypeError, match=r"State.field holds a time with fold=1"):
        list(pieces_of(state_of(annotation, value)))


class Bounded(msgspec.Struct):
    left: Annotated[int, msgspec.Meta(ge=0)] = 0


def test_what_the_class_would_not_read_is_refused_when_it_is_stored() -> None:
    with pytest.raises(TypeError, match=r"State.field holds what can't be read back: Expected `int` >= 0"):
        list(pieces_of(state_of(list[Bounded], [Bounded(-1)])))


@pytest.mark.parametrize(
    ("annotation", "instead"),
    [
        (defaultdict[str, int], "a defaultdict, which a snapshot can't give back: use a dict"),
        (dict[str, OrderedDict[str, int]], "a OrderedDict, which a snapshot can't give back: use a dict"),
        (deque[int] | None, "a deque, which a snapshot can't give back: use a list"),
        (Counter[str], "a Counter, which a snapshot can't give back: use a dict"),
    ],
)
def test_a_collection_that_a_snapshot_can_not_give_back_is_refused_with_the_app(annotation: Any, instead: str) -> None:
    def body(namespace: dict[str, Any]) -> None:
        namespace |= {
            "__module__": __name__,
            "__annotations__": {"held": annotation},
            "held": msgspec.field(default_factory=dict),
        }

    for base in (WriteModel, View):
        with pytest.raises(DefinitionError, match=f"field 'held' is {instead}"):
            App(
                models=[types.new_class("Holding", (WriteModel,), {}, body), Doer] if base is WriteModel else [Doer],
                views=[] if base is WriteModel else [types.new_class("Holding", (View,), {}, body)],
            )


def test_what_is_refused_is_found_in_later_pieces_too() -> None:
    state = state_of(dict[str, int], {f"account-{number}": number for number in range(100_000)})
    state.field["account-99999"] = False  # type: ignore[attr-defined]
    made = pieces_of(state)
    next(made)
    with pytest.raises(TypeError, match=r"State.field holds a value of type bool"):
        list(made)


def test_a_state_that_holds_itself_is_refused() -> None:
    node = Node()
    node.children.append(node)
    with pytest.raises(TypeError, match=r"Trees.roots holds what is nested too deeply .* or holds itself"):
        list(pieces_of(Trees([node])))

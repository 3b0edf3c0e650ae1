"""What operators do over HTTP: figures, the log page by page, the agenda, effects, views. The console stands on it.

Here: what each of these addresses does. Not here: who may use them (`app`), and what they do to an engine
(`Engine.agenda`, `Engine.effects`, `Engine.rebuild`).

Invariant: a caller that may not give commands sees none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

import msgspec
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response

from millstream.engine.application.about import About
from millstream.engine.application.agenda import PAGE_ENTRIES, AgendaPage, EntryKind, PageSize, Verdict
from millstream.engine.application.messages import Receipt
from millstream.engine.application.validation import encode
from millstream.engine.client.client import Client
from millstream.engine.engine import Engine
from millstream.engine.errors import InvalidMessage, LimitReached, NotLeader
from millstream.engine.stats import EffectStats, EngineStats, Health, ReplicaStats, ViewStats, WriterStats
from millstream.engine.web.health import health
from millstream.engine.web.history import PAGE_EVENTS, PAGE_EVENTS_MAX, LogPage, history

if TYPE_CHECKING:
    from millstream.engine.web.app import WebApp

__all__ = [
    "OPERATIONS",
    "Done",
    "Figures",
    "Looking",
    "Operating",
    "Operation",
    "Paging",
    "ReplicaFigures",
    "Settling",
    "Steering",
    "Steps",
]

T = TypeVar("T")


class ReplicaFigures(msgspec.Struct, frozen=True):
    """How far a replica is behind the log: see `ReplicaStats`."""

    status: str
    problem: str | None
    log_position: int
    lag_events: int
    lag_seconds: float


class Figures(msgspec.Struct, frozen=True):
    """Figures of one moment. ``may`` has the methods of the protocol that the caller may call. There is a ``writer``
    where commands are decided, and a ``replica`` where a log is followed; ``streams`` are those over HTTP.
    """

    app: str
    health: Health
    may: list[str]
    views: dict[str, ViewStats]
    streams: int
    writer: WriterStats | None = None
    replica: ReplicaFigures | None = None
    effects: dict[str, EffectStats] = {}
    snapshot_position: int | None = None


class Settling(msgspec.Struct, forbid_unknown_fields=True):
    """What is to become of an entry of the agenda. ``again``: also where commands of a reaction were decided."""

    verdict: Verdict
    again: bool = False


class Steering(msgspec.Struct, forbid_unknown_fields=True):
    """What is to become of the effects of a method: begin none, or begin them again."""

    paused: bool


class Steps(msgspec.Struct, forbid_unknown_fields=True):
    """What a view is to do: be made anew from the log, with or without taking the live one's place; or try again what
    it has parked.
    """

    do: Literal["rebuild", "compare", "replay_parked"]


class Done(msgspec.Struct, frozen=True):
    """What came of it, in words, and where the view stands."""

    says: str
    position: int


class Looking(msgspec.Struct, forbid_unknown_fields=True):
    """The query string of a page of the log."""

    type: list[str] = []
    key: list[str] = []
    actor: str | None = None
    correlation: str | None = None
    causation: str | None = None
    command_id: str | None = None
    before: int | None = None
    limit: int = PAGE_EVENTS

    def keeps(self) -> Callable[[About], bool]:
        """Whether an event is wanted, by what is known about it."""
        wanted = {
            name: value
            for name in ("actor", "correlation", "causation", "command_id")
            if (value := getattr(self, name)) is not None
        }
        return lambda about: all(getattr(about, name) == value for name, value in wanted.items())


class Paging(msgspec.Struct, forbid_unknown_fields=True):
    """The query string of a page of the agenda."""

    kind: EntryKind | None = None
    parked: bool | None = None
    after: str | None = None
    entry: str | None = None
    limit: PageSize = PAGE_ENTRIES


class Operation(NamedTuple):
    """One address as OpenAPI shows it: the method of HTTP, what it does, its query string, its body, its answer."""

    path: str
    method: str
    name: str
    says: str
    asked: type[Any] | None
    body: type[Any] | None
    answer: type[Any]


OPERATIONS = (
    Operation("/stats", "get", "stats", "Figures of this moment.", None, None, Figures),
    Operation("/log", "get", "log", "What happened, newest first, page by page.", Looking, None, LogPage),
    Operation("/agenda", "get", "agenda", "What is owed, due later, and parked.", Paging, None, AgendaPage),
    Operation("/agenda/{name}", "post", "agenda.settle", "What is to become of an entry.", None, Settling, Receipt),
    Operation("/effects/{name}", "post", "effects.steer", "Pause or resume a method.", None, Steering, EffectStats),
    Operation("/views/{name}", "post", "views.mend", "Make a view anew, or try parked events.", None, Steps, Done),
)


class Operating:
    """The addresses for operators, of one `WebApp`.

    Args:
        web: whose they are.
    """

    def __init__(self, web: WebApp) -> None:
        self._web = web
        self._looking = 0

    async def figures(self, request: Request, _: object) -> Response:
        """``GET /stats``."""
        web, backend = self._web, self._web.backend
        stats = await backend.stats() if isinstance(backend, Client) else backend.stats()
        found = Figures(
            web.app.name,
            await health(backend, names_views=True),
            sorted(web.methods_of(request)),
            dict(stats.views),
            web.streams,
        )
        if isinstance(stats, EngineStats):
            found = replace(
                found, writer=stats.writer, effects=stats.effects, snapshot_position=stats.snapshot_position
            )
        if isinstance(stats, ReplicaStats):
            lag = ReplicaFigures(stats.status, stats.problem, stats.log_position, stats.lag_events, stats.lag_seconds)
            found = replace(found, replica=lag)
        return _answer(found)

    async def log(self, request: Request, _: object) -> Response:
        """``GET /log``."""
        web, wanted = self._web, _read_query(request, Looking)
        if not 0 < wanted.limit <= PAGE_EVENTS_MAX:
            raise InvalidMessage("limit", f"a page has 1 to {PAGE_EVENTS_MAX} events, not {wanted.limit}")
        if self._looking >= web.limits.log_pages_max:
            raise LimitReached("log_pages_max", web.limits.log_pages_max)
        self._looking += 1
        try:
            page = await history(
                web.backend,
                web.messages.events(wanted.type),
                wanted.key or None,
                wanted.keeps(),
                before=wanted.before,
                limit=wanted.limit,
                events_max=web.limits.log_page_searched_events_max,
            )
        finally:
            self._looking -= 1
        return _answer(page)

    async def agenda(self, request: Request, _: object) -> Response:
        """``GET /agenda``."""
        asked = _read_query(request, Paging)
        page = await self._web.backend.agenda.page(
            kind=asked.kind, parked=asked.parked, after=asked.after, entry=asked.entry, limit=asked.limit
        )
        if "execute" not in self._web.methods_of(request):
            page = replace(page, entries=[each.without_commands for each in page.entries])
        return _answer(page)

    async def settle(self, request: Request, _: object) -> Response:
        """``POST /agenda/{name}``."""
        async with self._web.bodies.body_of(request) as body:
            wanted = _read(body, Settling)
        entry = request.path_params["name"]
        return _answer(await self._web.backend.agenda.settle(entry, wanted.verdict, again=wanted.again))

    async def steer(self, request: Request, _: object) -> Response:
        """``POST /effects/{name}``."""
        async with self._web.bodies.body_of(request) as body:
            wanted = _read(body, Steering)
        name, effects = request.path_params["name"], self._engine().effects
        (effects.pause if wanted.paused else effects.resume)(name)
        return _answer(effects.stats()[name])

    async def mend(self, request: Request, _: object) -> Response:
        """``POST /views/{name}``."""
        async with self._web.bodies.body_of(request) as body:
            wanted = _read(body, Steps)
        engine, name = self._engine(), request.path_params["name"]
        if wanted.do == "replay_parked":
            left = await engine.replay_parked(name)
            return _answer(Done(f"{len(left):,} events are parked still", engine.stats().views[name].position))
        built = await engine.rebuild(name, swap=wanted.do == "rebuild")
        differ = f"{built.rows_differ:,} rows differ, " if built.rows_differ else ""
        taken = "it has taken the live one's place" if built.swapped else "the live one stays"
        return _answer(Done(f"made anew in {built.seconds:.2f} s, {differ}{taken}", built.position))

    def _engine(self) -> Engine:
        """The engine, if it is one that is served here, with or without an edge around it.

        Raises:
            NotLeader: it runs elsewhere.
        """
        backend = self._web.backend
        found = getattr(backend, "within", backend)
        if not isinstance(found, Engine):
            raise NotLeader(None)
        return found


def _answer(value: object) -> Response:
    return Response(encode(value), 200, {"Cache-Control": "no-store"}, "application/json")


def _read(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        raise InvalidMessage(kind.__name__, str(error)) from error


def _read_query(request: Request, kind: type[T]) -> T:
    """The fields of a query string; those that may have several values are given several times."""
    given: dict[str, object] = {}
    for name, text in request.query_params.multi_items():
        if name in ("type", "key"):
            several = given.setdefault(name, [])
            assert isinstance(several, list)
            several.append(text)
        elif name in given:
            raise InvalidMessage("the query string", f"{name!r:.80} is given several times")
        else:
            given[name] = text
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidMessage("the query string", str(error)) from error

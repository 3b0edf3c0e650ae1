"""Watching: the answer now, then each changed one; no gap, no duplicate, none older; and nobody waits for who watches."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any, TypeVar

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.bench.proofs.bodies import commands_in
from millstream.engine import (
    Answered,
    AnswerFailed,
    App,
    Command,
    Engine,
    EngineClosed,
    Event,
    ImpureHandler,
    Key,
    Limits,
    MemoryLog,
    Query,
    UnknownMessage,
    ViewFaulted,
    ViewIncomplete,
    WatchesFull,
    WatchOverrun,
)
from millstream.engine.read.watches import Watch
from millstream.handlers import WriteModel, handles
from millstream.views import View, answers, applies
from tests.desk import Put, Seen, desk
from tests.shop import Add, Everything, Note, StockOf, Take, shop
from tests.support import UNSLICED, Outcome, settled, start, views_held, views_of

pytestmark = pytest.mark.anyio

T = TypeVar("T")


class Tag(Command):
    item: Key
    tag: str


class Tagged(Event):
    item: Key
    tag: str


class TagsOf(Query[frozenset[str]]):
    item: Key


class Longest(Query[str]):
    pass


class Wrong(Query[int]):
    """Its answer is not what it promises."""


class Strange(Query[complex]):
    """JSON has no such thing."""


class Changed(Query[int]):
    """Whoever answers it changes the view."""


class Labels(WriteModel):
    @handles
    def tag(self, command: Tag) -> Iterator[Event]:
        yield Tagged(command.item, command.tag)

    @applies
    def tagged(self, event: Tagged) -> None: ...


class Tags(View):
    tags: dict[str, list[str]] = {}
    changes: int = 0

    @applies
    def tagged(self, event: Tagged) -> None:
        self.tags.setdefault(event.item, []).append(event.tag)

    @answers
    def tags_of(self, query: TagsOf) -> frozenset[str]:
        return frozenset(self.tags.get(query.item, ()))

    @answers
    def longest(self, query: Longest) -> str:
        return max((tag for tags in self.tags.values() for tag in tags), key=len)

    @answers
    def wrong(self, query: Wrong) -> int:
        return "no number"  # type: ignore[return-value]

    @answers
    def strange(self, query: Strange) -> complex:
        return 1j

    @answers
    def changed(self, query: Changed) -> int:
        self.changes += 1
        return self.changes


labels = App(models=[Labels], views=[Tags], name="labels")


async def taken(answers: AsyncIterator[Answered[T]], count: int) -> list[tuple[T, int]]:
    """So many answers with their positions."""
    found: list[tuple[T, int]] = []
    for _ in range(count):
        answered = await anext(answers)
        found.append((answered.answer, answered.position))
    return found


async def test_a_watch_gives_the_answer_now_and_then_each_changed_one_with_its_position() -> None:
    async with Engine(shop, log="memory:") as engine:
        await engine.execute(Add("a", 1))
        async with engine.watch(StockOf("a")) as answers:
            assert await taken(answers, 1) == [(1, 1)]
            await engine.execute(Add("b", 5))
            await engine.execute(Add("a", 2))
            assert await taken(answers, 1) == [(3, 3)]
            await engine.execute(Take("a", 3))
            assert await taken(answers, 1) == [(0, 4)]


async def test_who_is_slow_gets_the_newest_answer_only_and_not_the_same_one_again() -> None:
    async with Engine(shop, log="memory:", limits=UNSLICED) as engine, engine.watch(StockOf("a")) as answers:
        assert await taken(answers, 1) == [(0, 0)]
        for count in (1, 2, 3):
            await engine.execute(Add("a", count))
        await settled()
        assert await taken(answers, 1) == [(6, 3)]
        await engine.execute(Add("a", 1))
        await engine.execute(Take("a", 1))
        await settled()  # it is what it was when it was given last
        async with anyio.create_task_group() as group:
            waiting = start(group, anext(answers))
            await settled()
            assert waiting.kind == "waiting"
            await engine.execute(Add("a", 1))
            await settled()
            assert waiting.value == Answered(7, 6)


async def test_who_wants_every_change_gets_each_commits_answer() -> None:
    async with (
        Engine(shop, log="memory:", limits=UNSLICED) as engine,
        engine.watch(StockOf("a"), every=True) as answers,
    ):
        for count in (1, 2, 3):
            await engine.execute(Add("a", count))
        await engine.execute(Take("a", 6))
        await engine.execute(Add("b", 1))
        await engine.execute(Add("a", 6))
        await settled()
        assert await taken(answers, 6) == [(0, 0), (1, 1), (3, 2), (6, 3), (0, 4), (6, 6)]


async def test_who_wants_every_change_and_does_not_take_them_gets_what_waited_and_then_an_error() -> None:
    limits = Limits(watch_answers_max=3)
    async with Engine(shop, log="memory:", limits=limits) as engine:
        async with engine.watch(StockOf("a"), every=True) as answers:
            for _ in range(5):
                await engine.execute(Add("a", 1))
            await settled()
            assert await taken(answers, 3) == [(0, 0), (1, 1), (2, 2)]
            with pytest.raises(WatchOverrun, match=r"watch_answers_max=3") as overrun:
                await anext(answers)
            assert overrun.value.view == "Shelf"
        assert await engine.ask(StockOf("a")) == 5


async def test_what_waits_for_those_who_want_every_change_is_bounded_in_bytes_and_each_has_a_share() -> None:
    limits = Limits(watch_answers_bytes_max=10_000)
    app = App(models=[Labels], views=[Tags])
    async with Engine(app, log="memory:", limits=limits) as engine, AsyncExitStack() as stack:
        (view,) = views_of(engine)
        await engine.execute(Tag("a", "x"))
        slow, like_it, other = [
            await stack.enter_async_context(engine.watch(query, every=True))
            for query in (Longest(), Longest(), TagsOf("a"))
        ]
        await taken(other, 1)
        for count in range(1, 9):
            await engine.execute(Tag("a", "x" * 1_000 * count))
            await settled()
            (last,) = [await anext(other)]
            assert len(last.answer) == count + 1  # one that takes what it gets misses nothing
            assert view.watches.kept_bytes <= 16_000
        for answers in (slow, like_it):
            given = await taken(answers, 4)
            assert [len(answer) for answer, _ in given] == [1, 1_000, 2_000, 3_000]
            with pytest.raises(WatchOverrun, match="its share of watch_answers_bytes_max=10,000") as overrun:
                await anext(answers)
            assert overrun.value.position == 4
        assert view.watches.kept_bytes == 0


async def test_what_waited_for_one_who_leaves_is_let_go_of() -> None:
    async with Engine(shop, log="memory:", limits=UNSLICED) as engine:
        (view, *_) = views_of(engine)
        async with engine.watch(StockOf("a"), every=True) as one, engine.watch(StockOf("a"), every=True) as two:
            for _ in range(3):
                await engine.execute(Add("a", 1))
            await settled()
            assert await taken(one, 4) == [(0, 0), (1, 1), (2, 2), (3, 3)]
            assert view.watches.kept_bytes == 4  # what all wait for is there once, and as long as one does
            await anext(two)
            assert view.watches.kept_bytes == 3
        assert view.watches.kept_bytes == 0


async def test_a_watch_begins_with_an_answer_that_reflects_its_token() -> None:
    async with Engine(shop, log="memory:", limits=UNSLICED) as engine, engine.watch(StockOf("a")) as answers:
        receipt = await engine.execute(Add("a", 1))
        await engine.execute(Note("nothing of it"))
        await settled()
        last = await engine.answer(StockOf("a"))
        assert last == Answered(1, 2)
        for token in (receipt, last, 2):
            async with engine.watch(StockOf("a"), after=token) as again:
                (first,) = await taken(again, 1)
                assert first == (1, 2)  # not the position of the change, which is older than the token
        async with anyio.create_task_group() as group, engine.watch(StockOf("b"), every=True) as others:
            await anext(others)
            async with views_held(engine):
                await engine.execute(Add("a", 1))
                begun = start(group, entered(engine, StockOf("a"), 3))
                await settled()
                assert begun.kind == "waiting"
        assert begun.value == Answered(2, 3)
        assert (await taken(answers, 1))[0][0] == 2


async def entered(engine: Engine, query: Query[T], after: int) -> Answered[T]:
    async with engine.watch(query, after=after) as answers:
        return await anext(answers)


async def test_an_answer_is_a_copy_that_the_view_does_not_change() -> None:
    async with (
        Engine(shop, log="memory:", limits=UNSLICED) as engine,
        engine.watch(Everything(), every=True) as answers,
    ):
        await engine.execute(Add("a", 1))
        await engine.execute(Add("a", 1))
        await settled()
        assert await taken(answers, 3) == [({}, 0), ({"a": 1}, 1), ({"a": 2}, 2)]


async def test_a_set_that_is_written_in_another_order_is_no_change() -> None:
    async with Engine(labels, log="memory:") as engine:
        await engine.execute_many([Tag("a", f"tag {number}") for number in range(10)])
        async with engine.watch(TagsOf("a"), every=True) as answers:
            assert await taken(answers, 1) == [(frozenset(f"tag {number}" for number in range(10)), 10)]
            view = views_of(engine)[0].read.state
            assert isinstance(view, Tags)
            view.tags["a"].reverse()
            await engine.execute(Tag("b", "elsewhere"))
            await engine.execute(Tag("a", "new"))
            assert len((await taken(answers, 1))[0][0]) == 11


async def test_equal_questions_are_answered_once_for_all_who_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Engine(labels, log="memory:", limits=UNSLICED) as engine:
        watches = [await engine.open_watch(TagsOf("a")) for _ in range(50)]
        asked = 0
        original = Tags.tags_of

        def counting(self: Tags, query: TagsOf) -> frozenset[str]:
            nonlocal asked
            asked += 1
            return original(self, query)

        for group in views_of(engine)[0].watches._groups.values():
            monkeypatch.setattr(group.question, "answer", counting)
        await engine.execute(Tag("a", "new"))
        await settled()
        assert asked == 1
        for watch in watches:
            assert await watch.next() == (b'["new"]', 1)
            watch.close()


async def test_commits_that_the_view_does_not_apply_ask_nothing_again() -> None:
    async with Engine(shop, log="memory:", limits=UNSLICED) as engine, engine.watch(StockOf("a")) as answers:
        await anext(answers)
        watches = engine.stats().views["Shelf"].watches
        touches = views_of(engine)[0].watches._touches
        await engine.execute(Note("nothing of it"))
        await settled()
        assert (watches, views_of(engine)[0].watches._touches) == (1, touches)


async def test_more_watches_than_are_allowed_are_refused_and_leaving_one_makes_room() -> None:
    async with Engine(shop, log="memory:", limits=Limits(watches_max=2)) as engine:
        async with engine.watch(StockOf("a")):
            async with engine.watch(StockOf("b")):
                with pytest.raises(WatchesFull, match=r"2 watches are open, watches_max=2"):
                    async with engine.watch(StockOf("c")):
                        pass
            async with engine.watch(StockOf("c")) as answers:
                assert await taken(answers, 1) == [(0, 0)]
        assert {view.watches for view in engine.stats().views.values()} == {0}


async def test_nothing_is_left_of_a_watch_that_was_cancelled_while_it_waited() -> None:
    async with Engine(shop, log="memory:", limits=UNSLICED) as engine:
        async with anyio.create_task_group() as group:

            async def watch() -> None:
                async with engine.watch(StockOf("a")) as answers:
                    async for _ in answers:
                        pass

            group.start_soon(watch)
            await settled()
            assert engine.stats().views["Shelf"].watches == 1
            group.cancel_scope.cancel()
        watches = views_of(engine)[0].watches
        assert (watches.count, watches._groups, watches.has_every) == (0, {}, False)
        await engine.execute(Add("a", 1))
        assert await engine.ask(StockOf("a"), after=1) == 1


async def test_who_watches_a_view_that_faults_hears_it_after_the_answers_that_were_true() -> None:
    async with Engine(desk("stop"), log="memory:", limits=UNSLICED) as engine:
        async with engine.watch(Seen(), every=True) as answers, engine.watch(Seen()) as waits:
            await anext(waits)
            await engine.execute(Put("a", "good"))
            async with anyio.create_task_group() as group:
                assert (await taken(waits, 1)) == [(("a good",), 1)]
                waiting = start(group, anext(waits))
                await settled()
                await engine.execute(Put("a", "bad"))
                await settled()
                assert waiting.kind == "ViewFaulted"
            assert await taken(answers, 2) == [((), 0), (("a good",), 1)]
            with pytest.raises(ViewFaulted, match="faulted at position 2"):
                await anext(answers)
        with pytest.raises(ViewFaulted):
            await engine.open_watch(Seen())


async def test_who_watches_a_view_that_leaves_something_out_hears_it_unless_that_will_do() -> None:
    fails = ["bad"]
    async with Engine(desk("park", fails=fails), log="memory:", limits=UNSLICED) as engine:
        async with engine.watch(Seen()) as strict, engine.watch(Seen(), incomplete=True) as lenient:
            assert await taken(strict, 1) == [((), 0)]
            assert await taken(lenient, 1) == [((), 0)]
            async with anyio.create_task_group() as group:
                waiting, undisturbed = start(group, anext(strict)), start(group, anext(lenient))
                await settled()
                await engine.execute(Put("a", "bad"))
                await settled()
                assert isinstance(waiting.error, ViewIncomplete)
                assert (waiting.error.answer, waiting.error.parked) == ((), 1)
                assert undisturbed.kind == "waiting"  # its answer is what it was
                fails.clear()
                await engine.replay_parked()
                await settled()
                assert undisturbed.value == Answered(("a bad",), 1)
        async with engine.watch(Seen()) as strict:
            assert await taken(strict, 1) == [(("a bad",), 1)]


async def test_a_view_that_fails_to_answer_ends_that_watch_and_no_other() -> None:
    async with Engine(labels, log="memory:", limits=UNSLICED) as engine:
        with pytest.raises(AnswerFailed, match="Longest"):
            await engine.open_watch(Longest())
        await engine.execute(Tag("a", "long"))
        await settled()
        async with engine.watch(Longest()) as longest, engine.watch(TagsOf("a")) as others:
            assert await taken(longest, 1) == [("long", 1)]
            await anext(others)
            view = views_of(engine)[0].read.state
            assert isinstance(view, Tags)
            view.tags.clear()
            view.tags["b"] = [1]  # type: ignore[list-item]
            async with anyio.create_task_group() as group:
                waiting = start(group, anext(longest))
                await settled()
                await engine.execute(Tag("a", "more"))
                await settled()
                assert waiting.kind == "AnswerFailed"
            assert (await taken(others, 1))[0][0] == frozenset(["more"])
            view.tags.pop("b")
            async with engine.watch(Longest()) as again:
                assert await taken(again, 1) == [("more", 2)]


async def test_answers_that_are_not_what_the_query_promises_or_json_holds_are_refused() -> None:
    async with Engine(labels, log="memory:") as engine:
        async with engine.watch(Wrong()) as answers:
            with pytest.raises(AnswerFailed, match="not what the query promises"):
                await anext(answers)
        for query in (Strange(),):
            with pytest.raises(AnswerFailed):
                async with engine.watch(query) as strange:
                    await anext(strange)
        with pytest.raises(UnknownMessage, match="StockOf"):
            async with engine.watch(StockOf("a")):
                pass


async def test_an_answer_that_changes_its_view_is_found_where_purity_is_checked() -> None:
    async with Engine(labels, log="memory:", check_purity=True) as engine:
        with pytest.raises(ImpureHandler):
            await engine.open_watch(Changed())


async def test_who_watches_an_engine_that_closes_hears_that() -> None:
    outcomes: list[Outcome] = []
    async with anyio.create_task_group() as group:
        async with Engine(shop, log="memory:", limits=UNSLICED) as engine:
            watches = [await engine.open_watch(StockOf("a"), every=bool(number % 2)) for number in range(250)]
            for watch in watches:
                await watch.next()
            outcomes = [start(group, watch.next()) for watch in watches]
            await settled()
        await settled()
        assert {outcome.kind for outcome in outcomes} == {"EngineClosed"}
    with pytest.raises(EngineClosed):
        await engine.open_watch(StockOf("a"))


async def test_no_answer_is_taken_while_a_commit_is_half_applied() -> None:
    async with Engine(shop, log="memory:", limits=Limits(slice_ms_max=1e-6)) as engine:
        watches = {item: await engine.open_watch(StockOf(item)) for item in ("a", "b")}
        seen: list[tuple[str, int, int]] = []
        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:

                async def follow(item: str) -> None:
                    count = 0
                    while count < 1_000:
                        data, position = await watches[item].next()
                        count = int(data)
                        seen.append((item, count, position))

                for item in watches:
                    group.start_soon(follow, item)
                for _ in range(5):
                    await engine.execute_many([Add("a", 1), Add("b", 1)] * 200)
        states = await states_by_position(engine)  # none for a position inside a commit
        assert [states[position].get(item, 0) for item, _, position in seen] == [count for _, count, _ in seen]
        assert seen[0][1] == 0


async def test_the_writer_and_the_loop_go_on_while_thousands_watch() -> None:
    """Between two looks of a thousand each, everybody else has had a turn."""
    async with Engine(shop, log="memory:", limits=Limits(slice_ms_max=1e-6)) as engine:
        watches = [await engine.open_watch(StockOf(f"item {number}")) for number in range(1_000)]
        for watch in watches:
            await watch.next()
        await engine.execute_many([Add(f"item {number}", 1) for number in range(1_000)])
        done = 0
        while any(group.looked != views_of(engine)[0].watches._touches for group in groups_of(engine)):
            await engine.execute(Note("goes on"))
            done += 1
        assert done >= 2
        for watch in watches:
            assert (await watch.next())[0] == b"1"
            watch.close()


def groups_of(engine: Engine) -> list[Any]:
    return list(views_of(engine)[0].watches._groups.values())


@settings(max_examples=40)
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.sampled_from("ab"), st.integers(1, 3)),
            st.tuples(st.just("take"), st.sampled_from("ab"), st.integers(1, 3)),
            st.tuples(st.just("watch"), st.sampled_from("ab"), st.booleans()),
            st.tuples(st.just("read"), st.integers(0, 5), st.integers(1, 3)),
            st.tuples(st.just("close"), st.integers(0, 5), st.none()),
            st.tuples(st.just("settle"), st.none(), st.none()),
        ),
        max_size=40,
    ),
    detached=st.booleans(),
)
def test_whatever_happens_a_watch_has_no_gap_no_duplicate_and_nothing_older(
    steps: list[tuple[Any, Any, Any]], detached: bool
) -> None:
    assert anyio.run(history, steps, detached) == sum(kind == "watch" for kind, _, _ in steps)


async def history(steps: list[tuple[Any, Any, Any]], detached: bool) -> int:
    """Each watch's answers are held against the state after every commit, which the log gives; how many watches."""
    limits = Limits(view_queue_commits_max=2 if detached else 1_024, batch_commands_max=2, slice_ms_max=1e-6)
    log = MemoryLog()
    async with Engine(shop, log=log, limits=limits) as engine:
        watches: list[tuple[Watch, str, bool]] = []
        given_to: list[list[tuple[int, int]]] = []
        for kind, one, other in steps:
            if kind in ("add", "take"):
                await engine.execute_many([Add(one, other) if kind == "add" else Take(one, other)] * 3)
            elif kind == "watch":
                watches.append((await engine.open_watch(StockOf(one), every=other), one, other))
                given_to.append([])
            elif kind == "read" and watches:
                index = one % len(watches)
                with anyio.move_on_after(0):
                    for _ in range(other):
                        data, position = await watches[index][0].next()
                        given_to[index].append((int(data), position))
            elif kind == "close" and watches:
                watches[one % len(watches)][0].close()
            elif kind == "settle":
                await settled()
        await settled()
        states = await states_by_position(engine)
        for (_, item, every), answers in zip(watches, given_to, strict=True):
            expected = {position: state.get(item, 0) for position, state in states.items()}
            assert [expected[position] for _, position in answers] == [answer for answer, _ in answers]
            assert [position for _, position in answers] == sorted(position for _, position in answers)
            assert all(one != two for (one, _), (two, _) in itertools.pairwise(answers))
            if every and answers:
                begin = answers[0][1]
                changes = changes_of([(p, s) for p, s in expected.items() if p >= begin])
                assert answers == [(state, position) for position, state in changes][: len(answers)]
        return len(watches)


async def states_by_position(engine: Engine) -> dict[int, dict[str, int]]:
    """The stock after each commit, from the log alone."""
    stock: dict[str, int] = {}
    states = {0: dict(stock)}
    for commit in await engine.log.read(0, 1 << 30):
        events = [event for record in commands_in(commit.body) for event in record["events"]]
        for event in events:
            sign = 1 if event["type"] == "Added" else -1
            stock[event["item"]] = stock.get(event["item"], 0) + sign * event["count"]
        states[commit.position - 1 + len(events)] = dict(stock)
    return states


def changes_of(states: list[tuple[int, int]]) -> list[tuple[int, int]]:
    changes: list[tuple[int, int]] = []
    for position, state in states:
        if not changes or changes[-1][1] != state:
            changes.append((position, state))
    return changes

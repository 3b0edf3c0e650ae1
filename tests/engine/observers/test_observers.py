"""Who is told what, and that nothing comes of an observer that fails."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from io import StringIO
from typing import Any

import pytest
import structlog

from millstream.engine import DefinitionError, Engine, Limits, MemoryLog, Observer, Rejected, Replica
from millstream.engine.cli.output import log_to_stderr
from millstream.engine.client import Client
from millstream.engine.observers import LogLines, Observers
from millstream.engine.observers.log_lines import LEVELS
from tests.shop import Add, StockOf, Take, shop
from tests.support import Seen, settled

pytestmark = pytest.mark.anyio

HOOKS = {name for name, value in vars(Observer).items() if inspect.isfunction(value)}


def test_every_hook_is_a_log_line_but_what_happens_at_each_commit() -> None:
    assert HOOKS - LEVELS.keys() == {"committed", "traced", "applied", "attempted"}
    assert LEVELS.keys() - HOOKS == {"observer_failed"}


def test_a_hook_that_nobody_defines_is_the_empty_function() -> None:
    observers = Observers([Observer()])
    assert "committed" not in vars(observers)
    assert "committed" in vars(Observers([Seen()]))


def test_those_who_are_told_are_told_in_their_order_after_the_log_lines(log_lines: list[Any]) -> None:
    told: list[tuple[str, int]] = []

    class Named(Observer):
        def __init__(self, name: str) -> None:
            self.name = name

        def store_recovered(self, *, commit: int, **_: Any) -> None:
            told.append((self.name, len(log_lines)))

    Observers([Named("first"), Named("second")]).store_recovered(log="bank.db", commit=7)
    assert told == [("first", 1), ("second", 1)]
    assert log_lines == [{"event": "store_recovered", "log_level": "info", "log": "bank.db", "commit": 7}]


def test_a_line_shows_errors_as_text_and_seconds_in_thousandths(log_lines: list[Any]) -> None:
    lines = LogLines()
    lines.opened(log="bank.db", app="bank", commits=2, events=3, replayed=3, seconds=0.00123456)
    lines.commit_failed(log="bank.db", commit=3, error=OSError("full"), cause=None)
    assert [(line["seconds"], line["events_per_second"]) for line in log_lines[:1]] == [(0.001, 2430)]
    assert [(line["error"], line["cause"]) for line in log_lines[1:]] == [("OSError('full')", "None")]


class Awaited(Observer):
    async def committed(self, **_: Any) -> None:  # type: ignore[override]
        raise AssertionError


class Yielding(Observer):
    def opened(self, **_: Any) -> Any:
        yield


class Streaming(Observer):
    async def closed(self, **_: Any) -> Any:
        yield


class AsyncCall:
    async def __call__(self, **_: Any) -> None: ...


class Held(Observer):
    def __init__(self) -> None:
        self.fenced = AsyncCall()  # type: ignore[method-assign, assignment]


@pytest.mark.parametrize(
    ("observer", "text"),
    [
        (Awaited(), r"called and not awaited, .* start a task in it \(Awaited\.committed\)"),
        (Yielding(), r"called and not iterated, .* \(Yielding\.opened\)"),
        (Streaming(), r"called and not awaited, .* \(Streaming\.closed\)"),
        (Held(), r"called and not awaited, .* \(Held\.fenced\)"),
        (Awaited, r"an observer is an object, not its class \(Awaited\(\)\)"),
    ],
)
def test_a_hook_whose_body_would_never_run_is_refused_where_it_is_given(observer: Any, text: str) -> None:
    makers: tuple[Callable[[], object], ...] = (
        lambda: Engine(shop, log="memory:", observers=[observer]),
        lambda: Replica(shop, log=MemoryLog(), observers=[observer]),
        lambda: Client("tcp://127.0.0.1:1", observers=[observer]),
    )
    for make in makers:
        with pytest.raises(DefinitionError, match=text):
            make()


class Failing(Observer):
    """Raises at whatever it is told."""


def _failing(hook: str) -> Any:
    def fail(_: Failing, **__: Any) -> None:
        raise ValueError(f"no {hook}")

    return fail


for _hook in HOOKS:
    setattr(Failing, _hook, _failing(_hook))


async def test_an_observer_that_raises_is_logged_and_changes_nothing_else(log_lines: list[Any]) -> None:
    seen = Seen()
    async with Engine(shop, log="memory:", limits=Limits(slow_commit_ms=1e-9), observers=[Failing(), seen]) as engine:
        receipt = await engine.execute(Add("a", 3))
        with pytest.raises(Rejected):
            await engine.execute(Take("a", 4))
        assert await engine.ask(StockOf("a"), after=receipt) == 3
        await settled()
    assert seen.names("opened", "committed", "slow_commit", "closed") == [
        "opened",
        "committed",
        "slow_commit",
        "closed",
    ]
    failures = [line for line in log_lines if line["event"] == "observer_failed"]
    assert {line["observer"] for line in failures} == {"Failing"}
    assert [line["hook"] for line in failures] == seen.names()
    assert all(isinstance(line["exc_info"], ValueError) for line in failures)


@pytest.fixture
def unconfigured() -> Iterator[None]:
    kept = structlog.get_config()
    structlog.reset_defaults()
    yield
    structlog.configure(**kept)


@pytest.mark.usefixtures("unconfigured")
async def test_a_failure_is_told_with_its_traceback_and_without_what_variables_held(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def charge(password: str) -> None:
        raise LookupError("no such card")

    try:
        charge("-".join(("hunter", "2")))
    except LookupError as error:
        facts: Any = {"place": "Shop.pay", "message": "Pay", "error": error, "left_out": 0}
    LogLines().application_failed(**facts)
    written = capsys.readouterr().out
    assert "in charge" in written
    assert "LookupError: no such card" in written
    assert "hunter-2" not in written


@pytest.mark.usefixtures("unconfigured")
@pytest.mark.parametrize("is_terminal", [False, True])
def test_a_command_line_tells_no_more_of_a_failure(is_terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(StringIO):
        def isatty(self) -> bool:
            return is_terminal

    def charge(password: str) -> None:
        raise LookupError("no such card")

    monkeypatch.setattr(sys, "stderr", written := Terminal())
    log_to_stderr("info")
    try:
        charge("-".join(("hunter", "2")))
    except LookupError as error:
        facts: Any = {"place": "Shop.pay", "message": "Pay", "error": error, "left_out": 0}
        LogLines().application_failed(**facts)
    assert "no such card" in written.getvalue()
    assert "charge" in written.getvalue()
    assert "hunter-2" not in written.getvalue()


async def test_log_lines_that_cannot_be_written_change_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    class Closed:
        def msg(self, message: str) -> None:
            raise BrokenPipeError("the other side is gone")

        info = warning = error = critical = msg

    structlog.configure(processors=[structlog.processors.JSONRenderer()], logger_factory=lambda *_: Closed())
    async with Engine(shop, log="memory:", limits=Limits(slow_commit_ms=1e-9)) as engine:
        receipt = await engine.execute(Add("a", 3))
        assert await engine.ask(StockOf("a"), after=receipt) == 3
    assert "BrokenPipeError: the other side is gone" in capsys.readouterr().err


def test_nothing_comes_of_a_standard_error_that_is_gone_either(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone:
        def write(self, _: str) -> int:
            raise BrokenPipeError

    structlog.configure(processors=[structlog.processors.JSONRenderer()], logger_factory=lambda *_: None)
    monkeypatch.setattr(sys, "stderr", Gone())
    seen = Seen()
    Observers([seen]).closed(log="bank.db", app="bank", commits=1, events=1)
    assert seen.names() == ["closed"]

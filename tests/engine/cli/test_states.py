"""``millstream log states`` and ``millstream view``: what they find, and that they change nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from millstream.engine import App, Command, Engine, Event, Key
from millstream.engine.cli import main
from millstream.handlers import WriteModel, applies, handles
from millstream.views import View


class Put(Command):
    place: Key
    weight: int


class WasPut(Event):
    place: Key
    weight: int


class Yard(WriteModel):
    @handles
    def put(self, command: Put) -> Iterator[Event]:
        yield WasPut(command.place, command.weight)

    @applies
    def was_put(self, event: WasPut) -> None: ...


class Weights(View):
    poison = "park"
    weights: dict[str, int] = {}

    @applies
    def was_put(self, event: WasPut) -> None:
        if event.weight < 0:
            raise ValueError("lighter than nothing")
        self.weights[event.place] = self.weights.get(event.place, 0) + event.weight


yard = App(models=[Yard], views=[Weights], name="yard")


def _mended() -> App:
    class Mended(Weights):
        @applies
        def was_put(self, event: WasPut) -> None:
            self.weights[event.place] = self.weights.get(event.place, 0) + abs(event.weight)

    Mended.__name__ = "Weights"
    return App(models=[Yard], views=[Mended], name="yard")


mended = _mended()


def _with(**changes: Any) -> App:
    """The yard with another view of that name."""
    return App(models=[Yard], views=[type("Weights", (Weights,), changes)], name="yard")


def _raise(self: Any, event: WasPut) -> None:
    raise ValueError("never")


newer = _with(code_version=2)
broken = _with(poison="stop", code_version=2, was_put=applies(_raise))

HERE = "tests.engine.cli.test_states"
ROOT = Path(__file__).parents[3]


@pytest.fixture
def millstream(
    capsysbinary: pytest.CaptureFixture[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str]]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(ROOT)

    def run(*arguments: str) -> tuple[int, str]:
        capsysbinary.readouterr()
        code = main(list(arguments))
        return code, capsysbinary.readouterr().out.decode()

    return run


def written(*commands: Put) -> None:
    async def write() -> None:
        async with Engine(yard, log="yard.db") as engine:
            await engine.execute_many(commands)

    anyio.run(write)


def test_states_are_what_the_log_makes(millstream: Callable[..., tuple[int, str]]) -> None:
    written(Put("a", 1), Put("a", 2))
    assert millstream("log", "states", f"{HERE}:yard", "yard.db") == (
        0,
        "model Yard: what the log makes\nledger: what the log makes\nview Weights: what the log makes\n",
    )


def test_a_method_that_changed_without_a_new_code_version_is_found(millstream: Callable[..., tuple[int, str]]) -> None:
    written(Put("a", 1), Put("a", -2))
    code, out = millstream("log", "states", f"{HERE}:mended", "yard.db")
    assert code == 1
    assert "view Weights: it is not what the log makes: raise its code_version, or mend what it applies\n" in out
    code, out = millstream("log", "states", f"{HERE}:mended", "yard.db", "--json")
    assert (code, json.loads(out)["different"]) == (1, ["view Weights"])


def test_a_view_that_the_log_does_not_make_is_not_well(millstream: Callable[..., tuple[int, str]]) -> None:
    written(Put("a", 1), Put("a", 2))
    code, out = millstream("log", "states", f"{HERE}:broken", "yard.db")
    assert code == 1
    assert (
        "view Weights: the log does not make it: the event at position 1 can't be applied: ValueError('never')\n" in out
    )
    assert "model Yard: what the log makes\n" in out


def test_what_could_not_be_compared_is_said_and_is_no_success_where_that_is_everything(
    millstream: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    written(Put("a", 1))
    code, out = millstream("log", "states", f"{HERE}:newer", "yard.db")
    assert code == 0
    assert "view Weights: not compared: its snapshot was of no use, and set aside\n" in out
    (tmp_path / "yard.db-snapshots").unlink()
    code, out = millstream("log", "states", f"{HERE}:yard", "yard.db")
    assert code == 1
    assert out.splitlines() == [
        "model Yard: not compared: there is no snapshot of it",
        "ledger: not compared: there is no snapshot of it",
        "view Weights: not compared: there is no snapshot of it",
        "nothing was compared: close an engine that has this log open once, so that there are snapshots",
    ]
    code, out = millstream("log", "states", f"{HERE}:yard", "yard.db", "--json")
    told = json.loads(out)
    assert (code, told["compared"], told["different"]) == (1, [], [])
    assert told["states"][2] == {
        "name": "view Weights",
        "is_compared": False,
        "differs": False,
        "problem": "there is no snapshot of it",
    }


def test_what_is_parked_is_shown_and_a_mended_view_takes_it_up(millstream: Callable[..., tuple[int, str]]) -> None:
    written(Put("a", 1), Put("a", -2), Put("a", 3), Put("b", 4))
    code, out = millstream("view", "parked", f"{HERE}:yard", "yard.db")
    assert code == 1
    assert [line.split()[:3] for line in out.splitlines() if "Weights" in line] == [
        ["Weights", "2", "a"],
        ["Weights", "3", "a"],
    ]
    assert "lighter than nothing" in out
    assert millstream("view", "retry", f"{HERE}:yard", "yard.db")[0] == 1
    assert millstream("view", "retry", f"{HERE}:mended", "yard.db", "--view", "Weights") == (
        0,
        "nothing is parked\n",
    )
    assert millstream("view", "parked", f"{HERE}:mended", "yard.db") == (0, "nothing is parked\n")
    assert millstream("log", "states", f"{HERE}:mended", "yard.db")[0] == 0


def test_what_is_parked_can_be_left_out_for_good(millstream: Callable[..., tuple[int, str]]) -> None:
    written(Put("a", 1), Put("a", -1), Put("a", 5), Put("b", -2))
    code, out = millstream("view", "parked", f"{HERE}:yard", "yard.db", "--json")
    assert (code, [json.loads(line)["position"] for line in out.splitlines()]) == (1, [2, 3, 4])
    code, out = millstream("view", "skip", f"{HERE}:yard", "yard.db", "Weights", "2", "--json")
    assert (code, [json.loads(line)["position"] for line in out.splitlines()]) == (1, [4])
    assert millstream("view", "skip", f"{HERE}:yard", "yard.db", "Weights", "4") == (0, "nothing is parked\n")
    assert millstream("view", "skip", f"{HERE}:yard", "yard.db", "Weights", "4")[0] == 2


def test_what_is_parked_is_told_to_programs(millstream: Callable[..., tuple[int, str]]) -> None:
    written(Put("a", -1))
    code, out = millstream("view", "parked", f"{HERE}:yard", "yard.db", "--json")
    told: dict[str, Any] = json.loads(out)
    assert code == 1
    assert told.pop("about").keys() == {"position", "recorded_at", "command", "key"}
    assert told == {
        "view": "Weights",
        "position": 1,
        "key": "a",
        "event": {"type": "WasPut", "place": "a", "weight": -1},
        "cause": "ValueError('lighter than nothing')",
        "code_version": 1,
    }


def test_a_view_that_is_not_there_is_a_wrong_argument(millstream: Callable[..., tuple[int, str]]) -> None:
    written(Put("a", 1))
    assert millstream("view", "retry", f"{HERE}:yard", "yard.db", "--view", "Nowhere")[0] == 2

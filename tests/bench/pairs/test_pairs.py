from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest

from millstream.bench import __main__ as command_line
from millstream.bench.job import BenchError
from millstream.bench.pairs.ratios import Pair, Ratio, Result, result_of
from millstream.bench.pairs.run import Contender, measure
from millstream.bench.pairs.work import WORKLOADS

ROOT = Path(__file__).parents[3]


def pairs(count: int, *, new: float = 1.0, again: float = 1.0) -> list[Pair]:
    """So many pairs; OLD takes between 1 and 2 seconds."""
    return [Pair(old, old * new, old * again) for old in (1 + number / count for number in range(count))]


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (pairs(60), "within the bound"),
        (pairs(60, new=1 / 0.971), "within the bound"),
        (pairs(60, new=1 / 0.969), "slower"),
        (pairs(60, new=0.5), "within the bound"),
        (pairs(60, again=1.02), "too noisy"),
        (pairs(60, new=2, again=0.98), "too noisy"),
        (pairs(60, again=1.014), "within the bound"),
        (pairs(59), "too few pairs"),
    ],
)
def test_a_verdict_is_given_by_many_pairs_whose_control_is_nearly_one(found: list[Pair], verdict: str) -> None:
    assert result_of("commands", 10, found).verdict == verdict


def test_what_is_shown_is_the_median_of_the_ratios_and_their_quartiles() -> None:
    found = [Pair(1.0, new, 1.0) for new in (0.5, 1.0, 1.25, 2.0, 4.0)]
    assert result_of("ask", 10, found).ratio == Ratio(0.8, 0.5, 1.0)
    assert result_of("ask", 10, found[:1]).ratio == Ratio(2.0, 2.0, 2.0)


def copy_of_the_checkout(folder: Path) -> Path:
    for name in ("engine", "handlers", "views"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


#: By workload a file, a line of it that each command, question or commit passes, and how far to count there. That is much
#: more than what it is added to: a run of a few milliseconds on a loaded machine takes twice as long, or half.
WASTE = {
    "commands": ("engine/write/kernel.py", "        events: Sequence[Event] = ()\n", 10_000),
    "ask": (
        "engine/read/queries.py",
        "        view, answer = self._answers.get(type(query)) or self._unknown(query)\n",
        400,
    ),
    "replay": ("engine/stores/reader.py", "        self._chain.check(commit)\n", 20_000),
}


@pytest.fixture(scope="module")
def contenders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Contender, Contender]:
    """This version, and one that wastes time at three places; both are compiled once for all tests."""
    folder = tmp_path_factory.mktemp("versions")
    wasteful = copy_of_the_checkout(folder / "wasteful")
    for name, mark, spin in WASTE.values():
        file = wasteful / name
        text = file.read_text("utf-8")
        assert mark in text
        file.write_text(text.replace(mark, f"{mark}        sum(range({spin}))\n"), "utf-8")
    return Contender(str(ROOT), folder / "old", {}), Contender(str(wasteful), folder / "new", {})


@pytest.mark.parametrize("workload", list(WORKLOADS))
def test_a_version_that_wastes_time_needs_more(contenders: tuple[Contender, Contender], workload: str) -> None:
    count = WORKLOADS[workload][1] // 40
    found = result_of(workload, count, measure(*contenders, workload, count=count, pairs=3, loop="asyncio"))
    assert found.ratio.median < found.control.low / 3


def test_the_command_compares_two_versions_and_writes_all_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.json"
    arguments = ["compare", str(ROOT), str(ROOT), "--smoke", "--new-limit", "batch_commands_max=10", "--json"]
    assert command_line.main([*arguments, str(report)]) == 0
    found = msgspec.json.decode(report.read_bytes(), type=list[Result])
    assert [(each.workload, len(each.pairs)) for each in found] == [(name, 1) for name in WORKLOADS]
    assert all(min(pair.old, pair.new, pair.again) > 0 for each in found for pair in each.pairs)
    shown = capsys.readouterr().out
    assert "too few pairs" in shown
    assert "a control within 1 ± 0.015" in shown


@pytest.mark.parametrize(
    ("version", "problem"),
    [
        ("no-such-commit", "'no-such-commit' is neither a folder with a pyproject.toml nor a commit: "),
        ("half", "has no folder 'handlers': name a checkout or a commit of this project"),
    ],
)
def test_what_is_no_version_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], version: str, problem: str
) -> None:
    half = copy_of_the_checkout(tmp_path / "half")
    shutil.rmtree(half / "handlers")
    monkeypatch.chdir(tmp_path)
    assert command_line.main(["compare", version, str(ROOT), "--smoke"]) == 2
    assert problem in capsys.readouterr().err


def test_a_version_that_fails_is_named_with_what_it_said(tmp_path: Path) -> None:
    broken = copy_of_the_checkout(tmp_path / "broken")
    (broken / "engine" / "engine.py").write_text("raise ZeroDivisionError('as it is')\n", "utf-8")
    with pytest.raises(BenchError, match="broken failed at ask: ZeroDivisionError: as it is"):
        Contender(str(broken), tmp_path / "site", {}).seconds("ask", 1, "asyncio")
    with pytest.raises(BenchError, match=r"failed at ask: .*no_such_limit"):
        Contender(str(ROOT), tmp_path / "other", {"no_such_limit": 1}).seconds("ask", 1, "asyncio")


@pytest.mark.parametrize(
    "arguments",
    [["--pairs", "0"], ["--new-limit", "slice_ms_max"], ["--old-limit", "slice_ms_max=soon"], ["--only", "nothing"]],
)
def test_wrong_options_end_the_program(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command_line.main(["compare", ".", ".", *arguments])
    assert ended.value.code == 2

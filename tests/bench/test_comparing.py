"""This run beside an earlier one: what counts as noise, and what does not."""

from __future__ import annotations

import io
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from millstream.bench import __main__ as command_line
from millstream.bench import publishing, report
from millstream.bench.comparing import compare, is_rate
from millstream.bench.summary import Report
from tests.bench.reports import MACHINE, a_figure, a_report, a_row


@pytest.mark.parametrize(
    ("unit", "before", "now", "verdict"),
    [
        ("commands/s", (100, 110, 120), (80, 90, 99), "slower"),
        ("commands/s", (100, 110, 120), (80, 90, 101), None),
        ("commands/s", (80, 90, 99), (100, 110, 120), "faster"),
        ("p99 ms", (80, 90, 99), (100, 110, 120), "slower"),
        ("p99 ms", (100, 110, 120), (80, 90, 99), "faster"),
        ("p99 ms", (100, 101, 102), (103, 104, 105), None),
        ("commands/s", (100, 110, 120), (100, 110, 120), None),
    ],
)
def test_slower_is_what_is_worse_in_its_best_run_and_five_percent_apart(
    unit: str, before: tuple[float, ...], now: tuple[float, ...], verdict: str | None
) -> None:
    found = compare(a_report(a_figure(a_row(*now), unit=unit)), a_report(a_figure(a_row(*before), unit=unit)))
    assert [change.verdict for change in found.changes] == ([verdict] if verdict else [])
    assert (found.same, found.unsure, found.new) == (int(verdict is None), 0, 0)


def test_with_fewer_than_three_runs_nothing_is_judged() -> None:
    found = compare(a_report(a_figure(a_row(1, 2))), a_report(a_figure(a_row(100, 100, 100))))
    assert (found.changes, found.same, found.unsure) == ([], 0, 1)


def test_what_was_not_there_is_counted_and_a_limit_is_said_to_be_one() -> None:
    now = a_figure(a_row(5, 5, 5, label="new"), a_row(50, 51, 52, label="disk", is_limit=True))
    found = compare(a_report(now), a_report(a_figure(a_row(100, 101, 102, label="disk", is_limit=True))))
    assert found.new == 1
    assert [change.told for change in found.changes] == [
        "callers, disk · asyncio: 51 commands/s (50 … 52), then 101 (100 … 102); "
        "it is a limit, so it says something about the machine"
    ]


def test_another_machine_is_said_to_be_one() -> None:
    other = msgspec.structs.replace(MACHINE, cores=64, versions={"sqlite": "4"})
    found = compare(a_report(), a_report(machine=other, smoke=True, at="2012-12-12"))
    assert found.earlier_at == "2012-12-12"
    assert found.remarks == [
        "The cores is another: 2, then 64.",
        "The version of sqlite is another: 3, then 4.",
        "At least one of them is a smoke run: sizes too small to compare.",
    ]


def test_rates_are_the_better_the_higher() -> None:
    assert [is_rate(unit) for unit in ("commands/s", "MB/s", "p99 ms", "seconds", "bytes/key", "µs/command")] == [
        True,
        True,
        False,
        False,
        False,
        False,
    ]


def test_the_terminal_shows_what_has_become_slower() -> None:
    found = compare(a_report(a_figure(a_row(1, 2, 3))), a_report(a_figure(a_row(10, 20, 30))))
    out = Console(file=io.StringIO(), width=150, force_terminal=False)
    report.show_comparison(out, found)
    assert isinstance(out.file, io.StringIO)
    assert out.file.getvalue() == (
        "\nCompared with the run of 2013-01-01\n"
        "slower: callers, millstream · asyncio: 2 commands/s (1 … 3), then 20 (10 … 30)\n"
        "0 within the noise, 0 that can't be judged, 0 that were not there.\n"
    )


def test_a_run_is_compared_with_the_file_that_another_has_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "--smoke",
        "--loop",
        "asyncio",
        "--only",
        "ask",
        "--dir",
        str(tmp_path / "out"),
        "--json",
        str(tmp_path / "1.json"),
    ]
    assert command_line.main(arguments) == 0
    first = msgspec.json.decode((tmp_path / "1.json").read_bytes(), type=Report)
    assert first.made_at.endswith("+00:00")
    capsys.readouterr()
    page = tmp_path / "page.html"
    assert command_line.main([*arguments, "--compare", str(tmp_path / "1.json"), "--html", str(page)]) == 0
    shown = capsys.readouterr().out
    assert f"Compared with the run of {first.made_at}" in shown
    assert "0 within the noise, 2 that can't be judged, 0 that were not there." in shown
    assert f"Compared with the run of {first.made_at}" in page.read_text("utf-8")


@pytest.mark.parametrize(("content", "problem"), [(None, "can't be read"), ("{}", "is no report of millstream.bench")])
def test_a_file_that_is_no_report_is_refused(
    content: str | None, problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / "earlier.json").write_text(content)
    with pytest.raises(SystemExit) as caught:
        command_line.main(["--smoke", "--compare", str(tmp_path / "earlier.json")])
    assert caught.value.code == 2
    assert problem in capsys.readouterr().err


def test_without_matplotlib_a_page_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(publishing, "find_spec", lambda name: None if name == "matplotlib" else name)
    assert command_line.main(["--smoke", "--html", str(tmp_path / "page.html"), "--dir", str(tmp_path / "out")]) == 2
    assert (
        capsys.readouterr().err
        == "millstream.bench draws its page with matplotlib: install the extra millstream[bench]\n"
    )
    assert not (tmp_path / "out").exists()

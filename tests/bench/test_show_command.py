"""Earlier reports shown again, and the page of Markdown, in which nothing of a report becomes markup."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from millstream.bench import __main__ as command_line
from millstream.bench.markdown import markdown_of
from millstream.bench.show_command import together
from millstream.bench.summary import Report
from tests.bench.reports import MACHINE, a_figure, a_report, a_row

FIGURE = a_figure(
    a_row(100, 110, 120, label="two *stars* | a bar", met=False), a_row(1, 2, 3, label="minimum", is_limit=True)
)


def tables_of(page: str) -> list[list[list[str]]]:
    """The cells of each table, as a reader sees them."""
    tables: list[list[list[str]]] = [[]]
    for line in page.splitlines():
        if not line.startswith("|"):
            tables.append([])
        elif not set(line) <= set("|-"):
            cells = re.split(r"(?<!\\)\|", line)[1:-1]
            tables[-1].append([re.sub(r"\\(.)", r"\1", cell.strip()) for cell in cells])
    return [table for table in tables if table]


def test_a_page_of_markdown_has_machine_goals_and_every_figure() -> None:
    facts, goals, figure = tables_of(page := markdown_of(a_report(FIGURE)))
    assert ["processor", "a <cpu>, 2 cores"] in facts
    assert goals == [
        ["figure", "contender", "reached", "goal", ""],
        ["callers", "two *stars* | a bar · asyncio", "0.75 of minimum", "≥ 0.8 of minimum", "**missed**"],
    ]
    assert figure == [
        ["contender", "commands/s", "lowest … highest", "÷ minimum", "goal", "events", "keys"],
        ["two *stars* | a bar · asyncio", "110", "100 … 120", "0.75", "≥ 0.8 of minimum **missed**", "1,000", "10"],
        ["minimum · asyncio", "2", "1 … 3", "", "", "1,000", "10"],
    ]
    assert "## callers: many \\<callers\\>\n" in page
    assert "- Redis: skipped, because redis-server can't be found\n" in page
    assert "Smoke" not in page
    assert "**Smoke: " in markdown_of(a_report(FIGURE, smoke=True))


def written(path: Path, report: Report) -> str:
    path.write_bytes(msgspec.json.encode(report))
    return str(path)


def test_reports_of_one_machine_are_shown_as_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = msgspec.structs.replace(FIGURE, name="other")
    again = msgspec.structs.replace(FIGURE, title="measured again")
    first = written(tmp_path / "1.json", a_report(FIGURE, other))
    second = written(tmp_path / "2.json", msgspec.structs.replace(a_report(again), runs=2))
    out = [str(tmp_path / name) for name in ("all.json", "all.html", "all.md")]
    arguments = ["show", first, second, "--json", out[0], "--html", out[1], "--markdown", out[2]]
    assert command_line.main(arguments) == 0
    assert "0 of 2 goals met" in capsys.readouterr().out
    report = msgspec.json.decode(Path(out[0]).read_bytes(), type=Report)
    assert [(figure.name, figure.title) for figure in report.figures] == [
        ("callers", "measured again"),
        ("other", "many <callers>"),
    ]
    assert report.runs == 2
    assert Path(out[2]).read_text("utf-8") == markdown_of(report)
    assert "measured again" in Path(out[1]).read_text("utf-8").casefold()


COMMITTED = sorted((Path(__file__).parents[2] / "docs" / "figures").glob("*.json"))


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.name)
def test_the_pages_of_committed_figures_are_of_their_reports(path: Path) -> None:
    report = msgspec.json.decode(path.read_bytes(), type=Report)
    assert path.stem == report.made_at[:10]
    assert not report.smoke
    assert path.with_suffix(".md").read_text("utf-8") == markdown_of(report)


def test_of_reports_one_smoke_is_enough_to_say_so() -> None:
    assert together([a_report(FIGURE), a_report(FIGURE, smoke=True)]).smoke


def test_reports_of_different_machines_are_not_put_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = written(tmp_path / "1.json", a_report(FIGURE))
    second = written(tmp_path / "2.json", a_report(FIGURE, machine=msgspec.structs.replace(MACHINE, cores=3)))
    with pytest.raises(SystemExit):
        command_line.main(["show", first, second])
    assert "reports of different machines or versions" in capsys.readouterr().err


def test_what_is_no_report_is_not_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "none.json").write_text("{}")
    for name, problem in (("none.json", "is no report of millstream.bench"), ("gone.json", "can't be read")):
        with pytest.raises(SystemExit):
            command_line.main(["show", str(tmp_path / name)])
        assert problem in capsys.readouterr().err

"""The page: it holds what it needs, says what was measured, and nothing in a report can become a part of its markup."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from millstream.bench.comparing import compare
from millstream.bench.page import page_of
from millstream.bench.plots import plots_of
from tests.bench.reports import MACHINE, a_figure, a_report, a_row

VOID = {"meta", "link", "br", "use"}

FIGURE = a_figure(a_row(100, 110, 120, met=False), a_row(1, 2, 3, label="minimum", is_limit=True))


class Page(HTMLParser):
    """Raises over a tag that is closed and was not open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.refers: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.refers += [value or "" for name, value in attrs if name in ("href", "src", "xlink:href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def text_of(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", re.sub(r"<(svg|style).*?</\1>", " ", page, flags=re.DOTALL)).split())


def test_the_page_is_whole_and_loads_nothing() -> None:
    page = Page(text := page_of(a_report(FIGURE)))
    assert page.open == []
    assert page.seen.count("svg") == 4
    assert [refers for refers in page.refers if not refers.startswith("#")] == []
    assert not {"script", "img", "link", "iframe"} & set(page.seen)
    assert re.findall(r"url\((?!#)", text) == []


def test_the_page_says_what_was_measured_on_what_and_what_is_missed() -> None:
    text = text_of(page_of(a_report(FIGURE)))
    assert "measured 2013-01-01 processor a &lt;cpu&gt;, 2 cores system Linux 6 files on ext4" in text
    assert "Goals: 0 of 1 met" in text
    assert "many &lt;callers&gt; : millstream · asyncio 0.75 of minimum ≥ 0.8 of minimum missed" in text
    assert "Why?" in text
    assert "millstream · asyncio 110 100 … 120 0.75 ≥ 0.8 of minimum missed" in text
    assert "minimum what minimum is durable: an fsync each" in text
    assert "Redis: skipped, because redis-server can't be found" in text


def test_the_page_says_what_has_become_slower_and_how_that_is_judged() -> None:
    earlier = a_report(a_figure(a_row(1_000, 1_100, 1_200)), at="2012-12-12")
    report = a_report(FIGURE)
    text = text_of(page_of(report, compare(report, earlier)))
    assert "Compared with the run of 2012-12-12" in text
    assert "slower : callers, millstream · asyncio: 110 commands/s (100 … 120), then 1,100 (1,000 … 1,200)" in text
    assert "even the best run now is worse than the worst run then" in text


@pytest.mark.parametrize(
    ("smoke", "filesystem", "warning"), [(True, "ext4", "Smoke: "), (False, "tmpfs", "keeps nothing")]
)
def test_the_page_says_when_its_figures_mean_nothing(smoke: bool, filesystem: str, warning: str) -> None:
    machine = type(MACHINE)(
        cpu="a cpu", cores=2, kernel="Linux 6", filesystem=filesystem, python="CPython 3", versions={}
    )
    assert warning in text_of(page_of(a_report(FIGURE, machine=machine, smoke=smoke)))
    assert warning not in text_of(page_of(a_report(FIGURE)))


def test_plots_have_a_name_keep_their_text_and_take_the_pages_colour() -> None:
    bars, latencies, sizes, memory = plots_of(FIGURE)
    assert 'aria-label="many &lt;callers>: commands/s of each contender"' in bars
    assert ">commands/s, more is better<" in bars
    assert ">99 %<" in latencies
    assert ">10 keys<" in sizes
    assert ">memory of the process, MB<" in memory
    assert all("currentColor" in plot and "#010203" not in plot for plot in (bars, latencies, sizes, memory))


def test_the_same_report_is_the_same_page() -> None:
    assert page_of(a_report(FIGURE)) == page_of(a_report(FIGURE))

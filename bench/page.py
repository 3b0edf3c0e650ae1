"""A report as one page of HTML that needs nothing else: its plots are in it, and it loads nothing from anywhere.

Written for readers who don't know the project. Needs matplotlib, the extra ``millstream[bench]``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape

from millstream.bench.comparing import Comparison
from millstream.bench.machine import IN_MEMORY
from millstream.bench.plots import plots_of
from millstream.bench.summary import FigureReport, Report, Row
from millstream.bench.wording import facts_of, headings_of, judged, kinds_of, name_of, number, reached, wanted

__all__ = ["page_of"]

_CSS = """
:root { color-scheme: light dark; --ink: #1d2129; --soft: #667; --line: #d8dbe2; --back: #fff; --card: #f7f8fa;
  --good: #1a7f4b; --bad: #c0362c; --link: #2456b3 }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8ec; --soft: #9aa3b2; --line: #363b45; --back: #15181d;
  --card: #1d2127; --good: #53c28b; --bad: #f0766b; --link: #8ab4f8 } }
* { box-sizing: border-box }
body { margin: 0; background: var(--back); color: var(--ink); font: 16px/1.55 system-ui, sans-serif }
main { max-width: 62rem; margin: 0 auto; padding: 2rem 1.25rem 4rem }
h1 { font-size: 1.7rem; margin: 0 0 .25rem } h2 { font-size: 1.25rem; margin: 2.6rem 0 .3rem }
p { margin: .4rem 0 } .soft, figcaption, td.what { color: var(--soft) } a { color: var(--link) }
.bad { color: var(--bad); font-weight: 600 } .good { color: var(--good); font-weight: 600 }
.scroll { overflow-x: auto } table { border-collapse: collapse; font-size: .87rem; margin: .6rem 0 }
th, td { text-align: right; padding: .25rem .7rem; border-bottom: 1px solid var(--line); white-space: nowrap }
th:first-child, td:first-child, td.what, th.what { text-align: left } td.what { white-space: normal }
th { font-weight: 600 } tr.limit td { color: var(--soft) }
section { border-top: 1px solid var(--line); margin-top: 2.2rem }
section h2 { margin-top: 1.4rem } svg { max-width: 100%; height: auto; display: block; margin: .5rem 0 }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .8rem 1.1rem;
  margin: 1rem 0 } dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: .3rem 0 }
dt { color: var(--soft) } dd { margin: 0 } nav { columns: 3 14rem; font-size: .9rem } nav a { display: block }
details summary { cursor: pointer; color: var(--soft) }
"""

_READING = """
<p><b>What this is.</b> millstream keeps the state of a program: every change goes through one writer, is put on disk,
and then shows in tables in memory that answer questions. These are measurements of it on one machine, next to what
that machine could do at best.</p>
<p><b>How to read it.</b> Coloured bars are millstream, one colour for each event loop that Python programs use; grey
bars are <i>limits</i>: plain programs that do a part of the work and nothing else, or other systems. A bar ends at the
median of several runs, the thin line shows the lowest and the
highest. <i>Durable</i> means that the change would
survive a power cut at the moment at which its caller gets the answer. Numbers of different machines can't be compared;
ratios within one page can. A <i>goal</i> is what the project wants to reach, not what it promises.</p>
<p><b>What it does not show.</b> The cost of your own rules, of networks other than the machine's own, of more
cores: one event loop uses one. The authors of millstream wrote the limits and chose the workloads, too.</p>
"""


def page_of(report: Report, comparison: Comparison | None = None) -> str:
    """The whole page.

    Args:
        report: what was measured.
        comparison: with an earlier run, if there was one.
    """
    parts = [*_head(report), f'<div class="card">{_READING}</div>', *_goals(report)]
    if comparison is not None:
        parts += _comparison(comparison)
    if len(report.figures) > 1:
        parts.append('<h2>All figures</h2><nav aria-label="figures">')
        parts += [f'<a href="#{escape(each.name)}">{escape(_short(each))}</a>' for each in report.figures]
        parts.append("</nav>")
    for figure in report.figures:
        parts += _figure(figure)
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>millstream: measured {escape(report.made_at)}</title>\n<style>{_CSS}</style></head>\n"
        f"<body><main>\n{body}\n</main></body></html>\n"
    )


def _head(report: Report) -> Iterator[str]:
    yield "<h1>millstream, measured</h1>"
    if report.smoke:
        yield '<p class="bad">Smoke: sizes too small to measure anything. It shows only that everything runs.</p>'
    if report.machine.filesystem in IN_MEMORY:
        yield f'<p class="bad">{report.machine.filesystem} keeps nothing: no figure of a durable change counts.</p>'
    facts = "".join(f"<dt>{name}</dt><dd>{escape(value)}</dd>" for name, value in facts_of(report).items())
    yield f"<dl>{facts}</dl>"


def _goals(report: Report) -> Iterator[str]:
    rows_judged = judged(report)
    if not rows_judged:
        return
    met = sum(bool(row.met) for _, row in rows_judged)
    yield f"<h2>Goals: {met} of {len(rows_judged)} met</h2>"
    rows = (
        (
            f'<a href="#{escape(figure.name)}">{escape(figure.title)}</a>: {escape(name_of(row))}',
            escape(reached(row)),
            escape(wanted(row.goal)),
            _verdict(row),
        )
        for figure, row in rows_judged
    )
    yield _table(("figure", "reached", "goal", ""), ((cells, "") for cells in rows))


def _comparison(found: Comparison) -> Iterator[str]:
    yield f"<h2>Compared with the run of {escape(found.earlier_at or 'an unknown time')}</h2>"
    for remark in found.remarks:
        yield f'<p class="bad">{escape(remark)}</p>'
    for change in found.changes:
        look = "bad" if change.verdict == "slower" else "good"
        yield f'<p><span class="{look}">{change.verdict}</span>: {escape(change.told)}</p>'
    yield f"<p>{found.same} within the noise, {found.unsure} that can't be judged, {found.new} that were not there.</p>"
    yield (
        '<p class="soft">Slower means: even the best run now is worse than the worst run then, and the medians are at '
        "least 5 % apart. It takes three runs of each to be judged.</p>"
    )


def _figure(figure: FigureReport) -> Iterator[str]:
    yield f'<section id="{escape(figure.name)}"><h2>{escape(_short(figure))}</h2>'
    if figure.about:
        yield f"<p>{escape(figure.about)}</p>"
    for plot in plots_of(figure):
        yield f"<figure style='margin:0'>{plot}</figure>"
    limits, details = headings_of(figure)
    goals = ["goal"] if any(row.goal for row in figure.rows) else []
    heads = ("", figure.unit, "lowest … highest", *(f"÷ {limit}" for limit in limits), *goals, *details)
    yield "<details open><summary>numbers</summary>"
    yield _table(heads, ((_cells(row, limits, goals, details), "limit" if row.is_limit else "") for row in figure.rows))
    yield "</details><details><summary>what each is, and what it makes durable</summary>"
    told = (map(escape, kind) for kind in kinds_of(figure))
    yield _table(("", "what", "durability"), ((cells, "") for cells in told), what=True)
    yield "</details>"
    for label, needed in figure.skipped.items():
        yield f'<p class="soft">{escape(label)}: skipped, because {escape(" and ".join(needed))} can\'t be found</p>'
    yield "</section>"


def _cells(row: Row, limits: Iterable[str], goals: Iterable[str], details: Iterable[str]) -> list[str]:
    return [
        escape(name_of(row)),
        number(row.median),
        f"{number(row.low)} … {number(row.high)}" if len(row.values) > 1 else "",
        *(f"{row.ratios[limit]:.2f}" if limit in row.ratios else "" for limit in limits),
        *(f"{escape(wanted(row.goal))} {_verdict(row)}" for _ in goals),
        *(number(row.details[name]) if name in row.details else "" for name in details),
    ]


def _verdict(row: Row) -> str:
    return {True: '<span class="good">met</span>', False: '<span class="bad">missed</span>', None: ""}[row.met]


def _table(heads: Iterable[str], rows: Iterable[tuple[Iterable[str], str]], *, what: bool = False) -> str:
    """A table of cells that are HTML already; each row with its class."""
    look = ' class="what"' if what else ""
    head = "".join(f"<th{look}>{escape(each)}</th>" for each in heads)
    body = "".join(
        f'<tr class="{kind}">' + "".join(f"<td{look}>{cell}</td>" for cell in cells) + "</tr>" for cells, kind in rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _short(figure: FigureReport) -> str:
    """Its title as a heading; one that begins with the name of an application keeps it as it is."""
    return figure.title if figure.title.startswith(figure.name) else figure.title[:1].upper() + figure.title[1:]

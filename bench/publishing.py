"""What becomes of a report once it is there: a file for programs, pages for people, a look at an earlier one.

Here also: the options that ask for it, the same for the project's own figures and for a user's application.
"""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path

import msgspec

from millstream.bench.comparing import compare
from millstream.bench.markdown import markdown_of
from millstream.bench.summary import Report

__all__ = ["add_options", "hand_over", "missing", "report_in"]


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that say where a report goes and what it is compared with."""
    parser.add_argument("--json", metavar="PATH", type=Path, help="write the report there, too")
    parser.add_argument("--html", metavar="PATH", type=Path, help="write it there as a page with plots, too")
    parser.add_argument("--markdown", metavar="PATH", type=Path, help="write it there as tables for a repository, too")
    parser.add_argument(
        "--compare",
        metavar="JSON",
        type=report_in,
        help="an earlier report: say what has become slower beyond the noise",
    )


def missing(options: argparse.Namespace) -> str | None:
    """What has to be installed for these options, in a sentence; None when it is there."""
    if find_spec("rich") is None:
        return "millstream.bench shows its report with rich: install the extra millstream[bench]\n"
    if getattr(options, "html", None) and find_spec("matplotlib") is None:
        return "millstream.bench draws its page with matplotlib: install the extra millstream[bench]\n"
    return None


def hand_over(report: Report, options: argparse.Namespace) -> None:
    """Write it where the options say, and show what has changed. What has become slower changes no exit code."""
    comparison = compare(report, options.compare) if options.compare else None
    if comparison is not None:
        from millstream.bench import report as look  # noqa: PLC0415 - needs rich, and `missing` says so

        look.show_comparison(look.console(), comparison)
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    if options.markdown:
        options.markdown.write_text(markdown_of(report), "utf-8")
    if options.html:
        from millstream.bench.page import page_of  # noqa: PLC0415 - needs matplotlib, and takes a second

        options.html.write_text(page_of(report, comparison), "utf-8")


def report_in(path: str) -> Report:
    """An earlier report, from the file that was written of it; for argparse.

    Raises:
        ArgumentTypeError: there is none.
    """
    try:
        return msgspec.json.decode(Path(path).read_bytes(), type=Report)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{path} can't be read: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise argparse.ArgumentTypeError(f"{path} is no report of millstream.bench: {error}") from error

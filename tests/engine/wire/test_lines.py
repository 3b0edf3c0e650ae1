from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.engine.wire import Cut, FrameTooLarge, Lines, stranger_in

FRAME_BYTES_MAX = 5

#: A stream, the lines it holds, how many bytes of an unfinished one are left at its end, and whether one is too long.
STREAMS: tuple[tuple[bytes, list[bytes], int, bool], ...] = (
    (b"", [], 0, False),
    (b"ab\n", [b"ab"], 0, False),
    (b"ab", [], 2, False),
    (b"\n", [b""], 0, False),
    (b"\n\n", [b"", b""], 0, False),
    (b"ab\ncd\n", [b"ab", b"cd"], 0, False),
    (b"ab\ncd", [b"ab"], 2, False),
    (b"ab\r\n", [b"ab\r"], 0, False),
    (b"a\x00\xff\n", [b"a\x00\xff"], 0, False),
    (b"12345\n", [b"12345"], 0, False),
    (b"12345", [], 5, False),
    (b"123456", [], 0, True),
    (b"123456\n", [], 0, True),
    (b"ab\n123456", [b"ab"], 0, True),
    (b"ab\n\n123456\ncd\n", [b"ab", b""], 0, True),
    (b"ab\ncd\nef\n1234567890\nxy", [b"ab", b"cd", b"ef"], 0, True),
)


def fed(pieces: Iterable[bytes]) -> tuple[list[bytes], int, bool]:
    """The lines that come of the pieces, what is left, and whether a line was too long."""
    lines, found = Lines(FRAME_BYTES_MAX), []  # type: tuple[Lines, list[bytes]]
    for piece in pieces:
        try:
            found += lines.feed(piece)
        except FrameTooLarge as error:
            return [*found, *error.lines], lines.pending, True
        assert lines.pending <= FRAME_BYTES_MAX
    return found, lines.pending, False


@pytest.mark.parametrize(("stream", "lines", "left", "too_long"), STREAMS)
def test_a_stream_that_comes_whole_is_cut_at_its_line_ends(
    stream: bytes, lines: list[bytes], left: int, too_long: bool
) -> None:
    assert fed([stream]) == (lines, left, too_long)


@pytest.mark.parametrize(("stream", "lines", "left", "too_long"), STREAMS)
def test_a_stream_that_comes_byte_by_byte_has_the_same_lines(
    stream: bytes, lines: list[bytes], left: int, too_long: bool
) -> None:
    assert fed(bytes([byte]) for byte in stream) == (lines, left, too_long)


@pytest.mark.parametrize(("stream", "lines", "left", "too_long"), STREAMS)
def test_what_follows_on_a_stream_is_one_more_line_unless_it_is_broken(
    stream: bytes, lines: list[bytes], left: int, too_long: bool
) -> None:
    rest = stream.rpartition(b"\n")[2]
    more = [] if too_long else [rest] if left == FRAME_BYTES_MAX else [rest + b"!"]
    assert fed([stream, b"!\n" if left < FRAME_BYTES_MAX else b"\n"]) == ([*lines, *more], 0, too_long)


@given(st.binary(max_size=60), st.lists(st.integers(0, 60)))
def test_it_makes_no_difference_where_a_stream_is_cut(stream: bytes, cuts: Sequence[int]) -> None:
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [stream[start:end] for start, end in pairwise(places)]
    assert fed(pieces) == fed([stream])


def test_a_stream_with_a_line_that_is_too_long_is_read_no_further() -> None:
    lines = Lines(3)
    with pytest.raises(FrameTooLarge) as first:
        lines.feed(b"ab\n1234")
    assert (first.value.lines, str(first.value)) == (
        [b"ab"],
        "a line is longer than frame_bytes_max=3: split the request",
    )
    for later in (b"ab\n", b"\n", b"x"):
        with pytest.raises(FrameTooLarge) as again:
            lines.feed(later)
        assert list(again.value.lines) == []


def test_a_line_in_crumbs_costs_no_more_for_being_long() -> None:
    lines = Lines(1_000_000)
    lines.feed(b"x" * 999_000)
    kept = lines._rest
    for _ in range(900):
        assert lines.feed(b"y") == []
    assert lines._rest is kept  # it grows where it is, and is not copied for each crumb
    assert lines.feed(b"\n") == [b"x" * 999_000 + b"y" * 900]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"", None),
        (b" \t\r", None),
        (b'{"jsonrpc":"2.0"}', None),
        (b" [", None),
        (b"POST / HTTP/1.1\r", "this is HTTP"),
        (b"GET /stats?x={} HTTP/1.0", "this is HTTP"),
        (b"PRI * HTTP/2.0\r", "this is HTTP"),
        (b"M-SEARCH * HTTP/1.1", "this is HTTP"),
        (b"\x16\x03\x01\x02\x00\x01", "the first line is no JSON object"),
        (b"hello", "the first line is no JSON object"),
        (b'"{"', "the first line is no JSON object"),
        (b"\xef\xbb\xbf{}", "the first line is no JSON object"),
    ],
)
def test_a_first_line_begins_the_protocol_or_says_what_it_begins(line: bytes, problem: str | None) -> None:
    told = stranger_in([b" ", line, b"GET / HTTP/1.1"] if line.strip() else [line])
    assert told is None if problem is None else str(told).startswith(problem)


@given(
    st.lists(st.binary(max_size=700).map(lambda line: line.replace(b"\n", b"x")), max_size=6),
    st.lists(st.integers(0, 3_000), max_size=8),
)
def test_a_reader_that_cuts_gives_each_line_whole_or_its_beginning_wherever_the_stream_is_cut(
    lines: list[bytes], cuts: list[int]
) -> None:
    stream, reader, found = b"".join(line + b"\n" for line in lines), Lines(400, cuts=True), []
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    for start, stop in pairwise(places):
        found += reader.feed(stream[start:stop])
        assert reader.pending <= 400
    assert found == [line if len(line) <= 400 else line[:256] for line in lines]
    assert [type(line) for line in found] == [bytes if len(line) <= 400 else Cut for line in lines]
    assert reader.pending == 0


@given(st.lists(st.sampled_from([b"a", b"bc", b"\n", b"\n\n", b"d\ne", b"1234567", b""]), max_size=20))
def test_lines_in_one_piece_are_those_that_come_one_by_one(pieces: list[bytes]) -> None:
    one_by_one, joined = Lines(FRAME_BYTES_MAX, cuts=True), Lines(FRAME_BYTES_MAX, cuts=True)
    for piece in pieces:
        whole = joined.joined(piece)
        found = joined.feed(piece) if whole is None else whole.split(b"\n")[:-1]
        assert [bytes(each) for each in found] == [bytes(each) for each in one_by_one.feed(piece)]
        assert whole is None or whole == b"" or whole.endswith(b"\n")
        assert joined.pending == one_by_one.pending

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.engine.server.fronts.frames import (
    ANSWER,
    LARGE,
    NOTES,
    NOTIFICATION,
    REPLIES,
    REQUESTS,
    BrokenStream,
    Frames,
    Outgoing,
    frame,
)
from millstream.engine.server.fronts.notes import (
    AcceptFailed,
    Arrived,
    Became,
    Dropped,
    Ending,
    Failed,
    GivenUp,
    Gone,
    Held,
    NeverCame,
    Note,
    Over,
    Ready,
    Stop,
    Took,
    Unready,
    Welcome,
    read_notes,
    write_notes,
)
from millstream.engine.server.tokens import Role

EVERY_NOTE: list[Note] = [
    Ready(),
    Unready("why"),
    Arrived(1),
    Became(1, Role.READER),
    Became(1, None),
    Took(1, 5),
    Ending(1, None),
    Ending(1, "idle_seconds_max"),
    GivenUp(1),
    Gone(1, None),
    NeverCame(2),
    Dropped("handshake", 3),
    AcceptFailed("no file left", 2),
    Failed("a traceback"),
    Welcome(1, False),
    Held(1, True),
    Over(1),
    Stop(),
]
kinds = st.sampled_from([REQUESTS, LARGE, REPLIES, ANSWER, NOTIFICATION, NOTES])


@given(st.lists(st.tuples(kinds, st.binary(max_size=30)), max_size=6), st.integers(1, 12))
def test_the_same_frames_come_out_whatever_the_pieces(sent: list[tuple[bytes, bytes]], piece: int) -> None:
    data = b"".join(frame(*each) for each in sent)
    frames, found = Frames(), list[tuple[bytes, bytes]]()
    for at in range(0, len(data), piece):
        found += frames.feed(data[at : at + piece])
    assert found == sent == Frames().feed(data)


def test_what_is_no_frame_is_noticed() -> None:
    frames = Frames()
    assert frames.feed(frame(NOTES, b"[]") + b"G") == [(NOTES, b"[]")]
    with pytest.raises(BrokenStream, match="a frame of kind b'G'"):
        frames.feed(b"ET /\n")


def test_what_waits_goes_out_in_its_order_and_what_belongs_together_in_one_frame() -> None:
    due: list[str] = []
    outgoing = Outgoing(REQUESTS, lambda items: b"|".join(items), lambda: due.append("due"))
    assert outgoing.take() == b""
    outgoing.put(b"a")
    outgoing.put(b"b")
    outgoing.note(Ready())
    outgoing.note(Stop())
    outgoing.frame(LARGE, b"large")
    outgoing.put(b"c")
    assert due == ["due"]
    notes = write_notes([Ready(), Stop()])
    assert Frames().feed(outgoing.take()) == [(REQUESTS, b"a|b"), (NOTES, notes), (LARGE, b"large"), (REQUESTS, b"c")]
    outgoing.note(Ready())
    assert due == ["due", "due"]
    assert Frames().feed(outgoing.take()) == [(NOTES, write_notes([Ready()]))]


def test_every_note_is_read_as_it_was_written() -> None:
    found: list[Any] = read_notes(write_notes(EVERY_NOTE))
    assert found == EVERY_NOTE
    assert {type(each) for each in EVERY_NOTE} == set(Note.__args__)

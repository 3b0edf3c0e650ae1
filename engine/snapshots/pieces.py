"""A state as a sequence of bytes, in pieces: made one at a time, so that no task has to wait for a large one.

Here: plain functions from a msgspec Struct to pieces and back. Not here: whether pieces fit (`shape`, `exact`), where
they are kept (`stores`), and when they are made (`recovery`).

What was written is read back at once, and written again: another piece would be another state. What reading back can't
show, classes and objects in two places, `exact` looks at.

A piece is the field's name, ``=`` if it begins the field or ``+`` if it adds to it, and a value as MessagePack
(https://msgpack.org): all of the field, or some entries of a dict, a list or a set that is the field. The order of
entries is kept. Times in UTC are MessagePack's own. That keeps no offset, so from the first piece on that holds another
one, those of the field are written as text, which takes longer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from itertools import islice
from typing import Any, TypeAlias

import msgspec
from msgspec import inspect

from millstream.engine.application.kinds import reached
from millstream.engine.errors import SnapshotMismatch
from millstream.engine.snapshots.exact import Exact, with_ints

__all__ = ["PIECE_BYTES", "add_piece", "in_pieces", "open_piece", "pieces_of"]

#: About how large a piece is: 1 ms to read back where it holds small values.
PIECE_BYTES = 64 * 1024

#: Entries that are written at once: so many large ones may follow small ones before a piece is known to be full.
_STRIDE_MAX = 64

_Collection: TypeAlias = dict[Any, Any] | list[Any] | set[Any]

_encoder = msgspec.msgpack.Encoder()
_HEAD = re.compile(rb"([^=+]+)([=+])")
#: How MessagePack begins a map and an array of up to 15, up to 65,535, and more entries.
_HEADERS: dict[type, tuple[int, int, int]] = {
    dict: (0x80, 0xDE, 0xDF),
    list: (0x90, 0xDC, 0xDD),
    set: (0x90, 0xDC, 0xDD),
}
#: The longest of them, which a piece has.
_HEADER_BYTES = 5
_SETS = (inspect.SetType, inspect.FrozenSetType)
_SLICED: dict[type, type] = {inspect.DictType: dict, inspect.ListType: list, inspect.SetType: set}

_with_text = partial(msgspec.to_builtins, builtin_types=(bytes, bytearray))


def pieces_of(state: msgspec.Struct) -> Iterator[bytes]:
    """The pieces of a Struct, field after field.

    Raises:
        TypeError: a field holds something that would not come back as what it is, or the state has what is no field.
        Exception: it holds something that msgspec can't write: an int of more than 64 bits, a class of its own.
    """
    kind, name = _kind_of(type(state)), type(state).__name__
    if beside := sorted(getattr(state, "__dict__", ())):
        raise TypeError(
            f"{name} has {', '.join(beside)}, which it does not declare; it would not come back: make it a field"
        )
    exact = Exact(kind)
    for field in kind.fields:
        value = getattr(state, field.name)
        back = _ReadBack(type(state), field)
        try:
            exact.begin(field, value)
            if _is_sliced(field.type, value):
                yield from in_pieces(field.name, value, partial(exact.look, field, held=1), back.compare)
            else:
                written = _encode(value, False)
                if as_text := exact.look(field, [value]):
                    written = _encode(value, True)
                back.compare(written, [value], as_text)
                yield f"{field.name}=".encode() + written
        except RecursionError as error:
            raise TypeError(
                f"{name}.{field.name} holds what is nested too deeply to come back for certain, or holds itself"
            ) from error


class _ReadBack:
    """Whether what was written for a field is read as what it was."""

    def __init__(self, cls: type[msgspec.Struct], field: inspect.Field) -> None:
        self._place = f"{cls.__name__}.{field.name}"
        self._decode = _decoders(cls)[field.name]
        #: Sets are read in another order, so what was read is compared itself.
        self._has_sets = any(isinstance(each, _SETS) for each in reached(field.type))

    def compare(self, written: bytes | memoryview, values: Sequence[Any], as_text: bool) -> None:
        """Read it back.

        Args:
            written: a whole value of the field, as MessagePack.
            values: what was written, or the collections that it was written from, one after another.
            as_text: whether its times were written as text.

        Raises:
            TypeError: it comes back as something else, or not at all.
        """
        try:
            read = self._decode(written)
        except msgspec.DecodeError as error:
            raise TypeError(f"{self._place} holds what can't be read back: {error}") from error
        if self._has_sets and self._is_equal(read, values):
            return
        again = _encode(read, as_text)
        if bytes(written) != again and not _is_same_but_header(written, again, read):
            raise TypeError(
                f"{self._place} holds what comes back as something else: because of a __post_init__, or an int where "
                "its class says float"
            )

    def _is_equal(self, read: Any, values: Sequence[Any]) -> bool:
        if len(values) == 1:
            return bool(read == values[0])
        whole: Any = type(read)()
        for value in values:
            whole.extend(value) if isinstance(whole, list) else whole.update(value)
        return bool(read == whole)


def _is_same_but_header(written: bytes | memoryview, again: bytes, read: Any) -> bool:
    """A piece says the number of its entries in four bytes, and a whole collection in as few as it needs."""
    if type(read) not in _HEADERS:
        return False
    header = 1 if len(read) < 16 else 3 if len(read) < 65_536 else 5
    return written[_HEADER_BYTES:] == memoryview(again)[header:]


def _is_sliced(kind: inspect.Type, value: Any) -> bool:
    """Whether some entries alone are a value of the type, too."""
    return (
        isinstance(kind, inspect.DictType | inspect.ListType | inspect.SetType)
        and _SLICED[type(kind)] is type(value)
        and not kind.min_length
    )


def in_pieces(
    name: str,
    value: _Collection,
    look: Callable[[Sequence[Any]], bool] = lambda chunks: False,
    compare: Callable[[memoryview, Sequence[Any], bool], None] = lambda written, chunks, as_text: None,
) -> Iterator[bytes]:
    """A collection as pieces of about `PIECE_BYTES`; one, if it is empty.

    Args:
        name: the field's.
        value: stays as it is until the last piece is made.
        look: is given what a piece holds, as several small collections, before the piece is handed out; tells whether
            its times, and those after it, are to be written as text.
        compare: is given a piece's MessagePack, what it holds, and whether times are text in it.
    """
    kind: type = type(value)
    entries: Iterable[Any] = value.items() if isinstance(value, dict) else value
    left, mark, as_text = iter(entries), "=", False
    while True:
        head = f"{name}{mark}".encode()
        piece = bytearray(head + bytes(_HEADER_BYTES))
        start, count, stride, chunks = len(piece), 0, 1, []
        while len(piece) - start < PIECE_BYTES and (chunk := kind(islice(left, stride))):
            _append(piece, _with_text(chunk) if as_text else chunk)
            chunks.append(chunk)
            count += len(chunk)
            stride = _stride(len(piece) - start, count)
        if mark == "+" and not count:
            return
        if look(chunks) and not as_text:
            as_text = True  # this piece is larger for that
            del piece[start:]
            for chunk in chunks:
                _append(piece, _with_text(chunk))
        piece[len(head) : start] = _HEADERS[kind][2].to_bytes(1, "big") + count.to_bytes(4, "big")
        made = bytes(piece)
        compare(memoryview(made)[len(head) :], chunks, as_text)
        yield made
        mark = "+"


def _stride(written: int, count: int) -> int:
    """How many more entries to write at once, where ``count`` of them took so many bytes, until the piece is full."""
    mean = written // count + 1
    return max(1, min(_STRIDE_MAX, (PIECE_BYTES - written) // mean))


def _encode(value: Any, as_text: bool) -> bytes:
    return _encoder.encode(_with_text(value) if as_text else value)


def _append(piece: bytearray, chunk: _Collection) -> None:
    """Write a small collection's entries to the end, without the header that goes before them."""
    short = len(chunk) < 16
    offset = len(piece) - (1 if short else 3)
    covered = piece[offset:]
    _encoder.encode_into(chunk, piece, offset)
    piece[offset : offset + len(covered)] = covered


def open_piece(piece: bytes) -> tuple[str, bool, memoryview]:
    """A piece's field, whether it begins that field, and its value as MessagePack.

    Raises:
        SnapshotMismatch: these bytes are no piece.
    """
    head = _HEAD.match(piece)
    try:
        name = head[1].decode() if head else ""
    except UnicodeDecodeError:
        name = ""
    if head is None or not name:
        raise SnapshotMismatch("a piece", "it does not begin with the name of a field")
    return name, head[2] == b"=", memoryview(piece)[head.end() :]


def add_piece(state: msgspec.Struct, piece: bytes) -> None:
    """Put a piece back where it came from.

    Raises:
        SnapshotMismatch: the Struct has no such field, or it is of another type.
    """
    name, begins, data = open_piece(piece)
    decode = _decoders(type(state)).get(name)
    if decode is None:
        raise SnapshotMismatch(type(state).__name__, f"it has no field {name!r} any more")
    try:
        value = decode(data)
    except msgspec.DecodeError as error:
        raise SnapshotMismatch(type(state).__name__, f"field {name!r}: {error}") from error
    if begins:
        setattr(state, name, value)
        return
    there = getattr(state, name)
    if type(there) is not type(value) or type(value) not in _HEADERS:
        raise SnapshotMismatch(type(state).__name__, f"a piece adds to field {name!r}, which holds no such collection")
    if isinstance(value, list):
        there.extend(value)
    else:
        there.update(value)


@lru_cache(maxsize=256)
def _kind_of(cls: type[msgspec.Struct]) -> inspect.StructType:
    kind = inspect.type_info(cls)
    assert isinstance(kind, inspect.StructType)
    return kind


@lru_cache(maxsize=256)
def _decoders(cls: type[msgspec.Struct]) -> dict[str, Callable[[Any], Any]]:
    return {field.name: msgspec.msgpack.Decoder(with_ints(field.type)).decode for field in msgspec.structs.fields(cls)}

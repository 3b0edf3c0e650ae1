"""A state as a sequence of bytes, in pieces: made one at a time, so that nobody has to wait for a large one.

Here: plain functions from a msgspec Struct to pieces and back. Not here: whether pieces fit (`shape`, `exact`), where
they are kept (`stores`), and when they are made (`recovery`).

A piece is the field's name, ``=`` if it begins the field or ``+`` if it adds to it, and a value as MessagePack
(https://msgpack.org): all of the field, or some entries of a dict, a list or a set that is the field. The order of
entries is kept. Times are written as text, because MessagePack's own keeps no offset.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from itertools import islice
from typing import Any, TypeAlias

import msgspec
from msgspec import inspect

from millstream.engine.application.kinds import parts_of
from millstream.engine.errors import SnapshotMismatch
from millstream.engine.snapshots.exact import Exact

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
_SLICED: dict[type, type] = {inspect.DictType: dict, inspect.ListType: list, inspect.SetType: set}

_as_text = partial(msgspec.to_builtins, builtin_types=(bytes, bytearray))


def pieces_of(state: msgspec.Struct) -> Iterator[bytes]:
    """The pieces of a Struct, field after field.

    Raises:
        TypeError: a field holds something that would not come back as what it is; see `exact`.
        Exception: it holds something that msgspec can't write: an int of more than 64 bits, a class of its own.
    """
    kind = _kind_of(type(state))
    exact = Exact(kind)
    for field in kind.fields:
        value = getattr(state, field.name)
        look = partial(exact.look, field)
        plain = _as_text if _has_times(field.type, ()) else None
        if _is_sliced(field.type, value):
            yield from in_pieces(field.name, value, look, plain)
        else:
            piece = f"{field.name}=".encode() + _encoder.encode(value if plain is None else plain(value))
            look([value])
            yield piece


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
    look: Callable[[Sequence[Any]], None] = lambda chunks: None,
    plain: Callable[[Any], Any] | None = None,
) -> Iterator[bytes]:
    """A collection as pieces of about `PIECE_BYTES`; one, if it is empty.

    Args:
        name: the field's.
        value: stays as it is until the last piece is made.
        look: is given what a piece holds, as several small collections, before the piece is handed out.
        plain: makes of a small collection what is written for it.
    """
    kind: type = type(value)
    entries: Iterable[Any] = value.items() if isinstance(value, dict) else value
    left, mark = iter(entries), "="
    while True:
        head = f"{name}{mark}".encode()
        piece = bytearray(head + bytes(5))
        start, count, stride, chunks = len(piece), 0, 1, []
        while len(piece) - start < PIECE_BYTES and (chunk := kind(islice(left, stride))):
            _append(piece, chunk if plain is None else plain(chunk))
            chunks.append(chunk)
            count += len(chunk)
            stride = _stride(len(piece) - start, count)
        if mark == "+" and not count:
            return
        piece[len(head) : start] = _HEADERS[kind][2].to_bytes(1, "big") + count.to_bytes(4, "big")
        look(chunks)
        yield bytes(piece)
        mark = "+"


def _stride(written: int, count: int) -> int:
    """How many more entries to write at once, where ``count`` of them took so many bytes, until the piece is full."""
    mean = written // count + 1
    return max(1, min(_STRIDE_MAX, (PIECE_BYTES - written) // mean))


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
    return {field.name: msgspec.msgpack.Decoder(field.type).decode for field in msgspec.structs.fields(cls)}


def _has_times(kind: inspect.Type, inside: tuple[Any, ...]) -> bool:
    """Whether a value of this type may hold a time of day and date."""
    if isinstance(kind, inspect.DateTimeType):
        return True
    cls = getattr(kind, "cls", None)
    if cls is not None:
        if cls in inside:
            return False
        inside = (*inside, cls)
    return any(_has_times(each, inside) for each in parts_of(kind))

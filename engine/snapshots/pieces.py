"""A state as a sequence of bytes, in pieces: made one at a time, so that nobody has to wait for a large one.

Here: plain functions from a msgspec Struct to pieces and back, and the shape that says whether they still fit. Not
here: where pieces are kept (`port`), and when they are made (`keeper`).

A piece is the field's name, ``=`` if it begins the field or ``+`` if it adds to it, and a value as MessagePack
(https://msgpack.org): all of the field, or some entries of a dict, a list or a set. The order of entries is kept. What
is not kept is identity: two fields that hold the same object hold two equal ones afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from hashlib import blake2b
from itertools import islice
from typing import Any, get_origin

import msgspec

from penstock.engine.declare import place_of
from penstock.engine.errors import SnapshotMismatch
from penstock.engine.sides import Side

__all__ = ["PIECE_BYTES", "add_piece", "drained", "fingerprint_of", "in_pieces", "open_piece", "pieces_of"]

#: About how large a piece is: 2 ms to read back where it holds small values.
PIECE_BYTES = 64 * 1024

_DRAINED_AT_ONCE = 2_000

_encode = msgspec.msgpack.Encoder().encode
_HEAD = re.compile(rb"(\w+)([=+])", re.ASCII)
_COLLECTIONS = (dict, list, set)


def pieces_of(state: msgspec.Struct) -> Iterator[bytes]:
    """The pieces of a Struct, field after field.

    Raises:
        TypeError, OverflowError: a field holds something that MessagePack can't.
    """
    for field in msgspec.structs.fields(state):
        value = getattr(state, field.name)
        if type(value) in _COLLECTIONS and get_origin(field.type) is type(value):
            yield from in_pieces(field.name, value)
        else:
            yield _piece(field.name, "=", value)


def in_pieces(name: str, value: dict[Any, Any] | list[Any] | set[Any]) -> Iterator[bytes]:
    """A collection as pieces of about `PIECE_BYTES`; one, if it is empty."""
    kind: type = type(value)
    left: Iterator[Any] = iter(value.items() if isinstance(value, dict) else value)
    size, mark = 128, "="
    while True:
        some = list(islice(left, size))
        if some or mark == "=":
            piece = _piece(name, mark, kind(some))
            yield piece
            mark = "+"
        if len(some) < size:
            return
        size = max(1, min(4 * size, size * PIECE_BYTES // len(piece)))


def _piece(name: str, mark: str, value: Any) -> bytes:
    return f"{name}{mark}".encode() + _encode(value)


def open_piece(piece: bytes) -> tuple[str, bool, memoryview]:
    """A piece's field, whether it begins that field, and its value as MessagePack.

    Raises:
        SnapshotMismatch: these bytes are no piece.
    """
    head = _HEAD.match(piece)
    if head is None:
        raise SnapshotMismatch("a piece", "it does not begin with the name of a field")
    return head[1].decode(), head[2] == b"=", memoryview(piece)[head.end() :]


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
    elif isinstance(value, list):
        getattr(state, name).extend(value)
    else:
        getattr(state, name).update(value)


@lru_cache(maxsize=256)
def _decoders(cls: type[msgspec.Struct]) -> dict[str, Callable[[Any], Any]]:
    return {field.name: msgspec.msgpack.Decoder(field.type).decode for field in msgspec.structs.fields(cls)}


def drained(state: object) -> Iterator[None]:
    """Empty a state that nobody needs any more, a little at each step: letting go of a million entries takes 0.1 s."""
    for name in getattr(type(state), "__struct_fields__", ()):
        value = getattr(state, name)
        if isinstance(value, dict | set):
            pop = value.popitem if isinstance(value, dict) else value.pop
            while value:
                for _ in range(min(len(value), _DRAINED_AT_ONCE)):
                    pop()
                yield
        elif isinstance(value, list):
            while value:
                del value[-_DRAINED_AT_ONCE:]
                yield


def fingerprint_of(side: type[Side]) -> str:
    """What must be the same for a snapshot to fit: the state's shape, its code version, and the events it applies."""
    try:
        shape: Any = _shape(msgspec.inspect.type_info(side), ())
    except TypeError:
        shape = "its own"  # it holds what msgspec does not know, so it makes its pieces itself
    applied = sorted(str(event.__struct_config__.tag) for event in side.__appliers__)
    return blake2b(repr((shape, side.code_version, applied)).encode(), digest_size=16).hexdigest()


def _shape(part: Any, inside: tuple[Any, ...]) -> Any:
    """A type as nested tuples of plain values, without what may differ from run to run."""
    if isinstance(part, msgspec.inspect.Field):
        return part.encode_name, _shape(part.type, inside)
    if isinstance(part, type):
        return place_of(part)
    if isinstance(part, tuple):
        return tuple(_shape(each, inside) for each in part)
    if not isinstance(part, msgspec.inspect.Type):
        return repr(part)
    cls = getattr(part, "cls", None)
    if cls in inside:
        return "again"
    if isinstance(part, msgspec.inspect.EnumType):
        return "enum", tuple(repr(member.value) for member in part.cls)
    if isinstance(part, msgspec.inspect.StructType):
        return "struct", repr(part.tag), part.array_like, _shape(part.fields, (*inside, cls))
    values = (getattr(part, name) for name in part.__struct_fields__)
    return type(part).__name__, *(_shape(value, (*inside, cls) if cls else inside) for value in values)

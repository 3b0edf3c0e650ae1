"""What has changed in an answer that is a list of rows: those that were put, and the keys of those that are gone.

Here: what such an answer is, the values, and both ways between them and their JSON. Not here: which answers are
compared, and who gets the changes (`read.row_watches`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Generic, TypeVar, get_args, get_origin

import msgspec
from msgspec import NODEFAULT, Raw
from msgspec.structs import FieldInfo, fields

from millstream.engine.application.messages import Query
from millstream.engine.application.methods import answer_type
from millstream.engine.errors import DefinitionError, InvalidMessage

__all__ = ["Changes", "RowChanges", "changes_between", "changes_reader", "default_of", "row_key", "rows_by_key"]

Row = TypeVar("Row")


class RowChanges(msgspec.Struct, Generic[Row], frozen=True):
    """What has changed in an answer: the rows that are new or other, and the keys of those that are gone.

    It is true at ``position``. Where it is ``whole``, ``put`` are all rows that there are: a watcher drops its own.
    The first one is, and where a connection was lost the next one, too. The field ``key`` identifies a row.
    """

    put: tuple[Row, ...]
    removed: tuple[Any, ...]
    position: int
    whole: bool
    key: str


class Changes(msgspec.Struct, frozen=True):
    """The same as JSON: what is sent, without the position."""

    key: str
    put: Sequence[Raw]
    removed: Sequence[Raw] = ()
    whole: bool = False


def row_key(query: type[Query[Any]], key: str | None) -> FieldInfo:
    """The field by which the rows of a query's answers are identified.

    Args:
        query: its class. It promises a list or a tuple of Structs of one class.
        key: the field's name, in Python or in JSON; None for that of the table whose rows these are.

    Raises:
        InvalidMessage: its answer is no list of rows, they have no such field, or it is no table's and none is named.
    """
    row = _row_of(query)
    if key is None:
        problem = f"its view is no table, so say which field identifies a row: key={fields(row)[0].name!r}"
        raise InvalidMessage(query.__name__, problem)
    for field in fields(row):
        if key in (field.name, field.encode_name):
            return field
    raise InvalidMessage(query.__name__, f"its rows, {row.__name__}, have no field {key!r}")


@lru_cache(maxsize=1_024)
def _row_of(query: type[Query[Any]]) -> type[msgspec.Struct]:
    """The class of the rows that a query promises.

    Raises:
        InvalidMessage: it promises something else, or rows whose fields have no names in JSON.
    """
    row = _promised_row(query)
    if row is None:
        raise InvalidMessage(query.__name__, "its answer is no list of rows: Query[list[…]] of one class of Structs")
    if row.__struct_config__.array_like:
        problem = f"its rows, {row.__name__}, are arrays in JSON, in which no field has a name"
        raise InvalidMessage(query.__name__, problem)
    return row


def _promised_row(query: type[Query[Any]]) -> type[msgspec.Struct] | None:
    try:
        promised = answer_type(query)
    except DefinitionError:
        return None
    inner = get_args(promised)
    if get_origin(promised) is tuple and (len(inner) != 2 or inner[1] is not ...):
        return None
    if get_origin(promised) not in (list, tuple, Sequence) or not inner:
        return None
    return inner[0] if isinstance(inner[0], type) and issubclass(inner[0], msgspec.Struct) else None


def default_of(query: type[Query[Any]], key: FieldInfo) -> bytes | None:
    """The JSON of the value that a row's key has where the row is written without it; None where it never is."""
    if not _row_of(query).__struct_config__.omit_defaults or key.default is NODEFAULT:
        return None
    return msgspec.json.encode(key.default)


def rows_by_key(data: bytes, name: str, default: bytes | None = None) -> Mapping[bytes, Raw]:
    """The rows of an answer's JSON, by the JSON of their keys.

    Args:
        data: the answer.
        name: of the field, in JSON.
        default: the JSON of its value in a row that is written without it.

    Raises:
        ValueError: two rows have one key.
        msgspec.DecodeError: it is no list of objects that have such a field.
    """
    keys, rows = _keyed(name, default)(data), _read_rows(data)
    found = {bytes(keyed.key): row for keyed, row in zip(keys, rows, strict=True)}
    if len(found) < len(rows):
        raise ValueError(f"{len(rows) - len(found):,} rows have a {name} that another one has, too")
    return found


def changes_between(name: str, before: Mapping[bytes, Raw] | None, now: Mapping[bytes, Raw]) -> Changes | None:
    """What has changed; None if nothing has.

    Args:
        name: of the key's field, in JSON.
        before: the rows that are known; None if none are.
        now: the rows that there are.
    """
    if before is None:
        return Changes(name, list(now.values()), whole=True)
    put = [row for key, row in now.items() if (known := before.get(key)) is None or known != row]
    removed = [Raw(key) for key in before if key not in now]
    return Changes(name, put, removed) if put or removed else None


def changes_reader(query: type[Query[Any]]) -> Callable[[bytes | Raw, int], RowChanges[Any]]:
    """The function that reads changes from their JSON, and gives them a position.

    Raises:
        InvalidMessage: the query's answer is no list of rows.
    """
    row = _row_of(query)
    by_name = {field.encode_name: field for field in fields(row)}
    read_rows = msgspec.json.Decoder(tuple[row, ...]).decode  # type: ignore[valid-type]
    readers: dict[str, Callable[[bytes], tuple[Any, ...]]] = {}

    def read(data: bytes | Raw, position: int) -> RowChanges[Any]:
        told = _read_changes(data)
        if told.key not in by_name:
            raise msgspec.ValidationError(f"the rows have no field {told.key!r}")
        if told.key not in readers:
            readers[told.key] = msgspec.json.Decoder(tuple[by_name[told.key].type, ...]).decode  # type: ignore[misc]
        put, removed = read_rows(_array(told.put)), readers[told.key](_array(told.removed))
        return RowChanges(put, removed, position, told.whole, by_name[told.key].name)

    return read


class _Keyed(msgspec.Struct):
    key: Raw


@lru_cache(maxsize=1_024)
def _keyed(name: str, default: bytes | None) -> Callable[[bytes], list[_Keyed]]:
    field: Any = ("key", Raw) if default is None else ("key", Raw, Raw(default))
    keyed = msgspec.defstruct("Keyed", [field], rename={"key": name}, gc=False)
    return msgspec.json.Decoder(list[keyed]).decode  # type: ignore[valid-type]


_read_rows = msgspec.json.Decoder(list[Raw]).decode
_read_changes = msgspec.json.Decoder(Changes).decode


def _array(parts: Iterable[Raw]) -> bytes:
    return b"[%b]" % b",".join(map(bytes, parts))

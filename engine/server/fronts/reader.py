"""From a line to a request that is good and left as it came, for another process to take up.

Here: what a front reads. It is read by the very `Requests` that a server without fronts has, so what is refused, and
how, is the same; of what is good, the params are kept as bytes. Not here: who is sent what (`connection`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, cast

import msgspec
from msgspec import Raw, UnsetType

from millstream.engine.wire import Malformed, Requests, Unread
from millstream.engine.wire.messages import ReplyId

__all__ = ["FrontReader", "Passing", "passing_classes"]

_NO_PARAMS = Raw(b"{}")


class Passing(msgspec.Struct, frozen=True, gc=False):
    """A good request, to be passed on. Each method has a class of its own, made from this one."""

    id: ReplyId | UnsetType
    params: Raw
    #: How many requests in flight it counts as.
    requests: int


class _Envelope(msgspec.Struct, frozen=True, gc=False):
    params: Raw = _NO_PARAMS


_read: msgspec.json.Decoder[_Envelope] = msgspec.json.Decoder(_Envelope)
_read_raws: msgspec.json.Decoder[list[Raw]] = msgspec.json.Decoder(list[Raw])
_read_mixed: msgspec.json.Decoder[list[_Envelope] | _Envelope] = msgspec.json.Decoder(list[_Envelope] | _Envelope)


class FrontReader:
    """Reads lines for one role.

    Args:
        requests: what reads them.
        passing: by method: the class of what is passed on. Requests for other methods are left as they were read.
    """

    def __init__(self, requests: Requests, passing: Mapping[str, type[Passing]]) -> None:
        self._requests = requests
        self._passing: Mapping[type[Any], type[Passing]] = {
            requests.types[name]: made for name, made in passing.items() if name in requests.types
        }
        self._many: Any = requests.types.get("execute_many")

    def read(self, line: bytes) -> Any:
        """As `Requests.read`, with a `Passing` in the place of each that is passed on."""
        found = self._requests.read(line)
        if found.__class__ is not list:
            return found if found is None else self._kept(found, line)
        return [self._kept(each, bytes(raw)) for each, raw in zip(found, _read_raws.decode(line), strict=True)]

    def read_lines(self, data: bytes) -> list[Any] | None:
        """As `Requests.read_lines`, in the same way."""
        found = self._requests.read_lines(data)
        if found is None:
            return None
        passing = self._passing_of
        return [
            passing(each, envelope)
            if each.__class__ is not list
            else [passing(one, its) for one, its in zip(each, envelope, strict=True)]  # type: ignore[arg-type]
            for each, envelope in zip(found, _read_mixed.decode_lines(data), strict=True)
        ]

    def _kept(self, found: Any, line: bytes) -> Any:
        return found if isinstance(found, Malformed | Unread) else self._passing_of(found, _read.decode(line))

    def _passing_of(self, found: Any, envelope: Any) -> Any:
        made = self._passing.get(found.__class__)
        if made is None:
            return found
        requests = 1 if found.__class__ is not self._many else max(1, len(found.params.commands))
        if requests > self._requests.batch_max:
            requests = 1  # it is refused whole
        return made(found.id, envelope.params, requests)


def passing_classes(methods: Collection[str]) -> dict[str, type[Passing]]:
    """For each method a class of what is passed on, whose name it is."""
    made = ((name, msgspec.defstruct(name, [], bases=(Passing,), tag=name, frozen=True, gc=False)) for name in methods)
    return {name: cast(type[Passing], each) for name, each in made}

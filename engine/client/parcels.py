"""Several commands in one call: how they are cut into calls, and what became of each.

Here: values to bytes, and back. Not here: how calls get where they go (`link`), and waiting for them (`outcomes`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET

from millstream.engine.application.messages import Command, Metadata, Receipt
from millstream.engine.application.options import Deadline
from millstream.engine.application.validation import checked_command_id, encode
from millstream.engine.client.calls import Call, error_of
from millstream.engine.client.executions import as_told, json_of, mended, promised, require_promise
from millstream.engine.client.limits import ClientLimits
from millstream.engine.errors import AnswerUnreadable, DeadlineExceeded, MillstreamError, RemoteError
from millstream.engine.wire.errors import INTERNAL_ERROR
from millstream.engine.wire.messages import Outcomes

__all__ = ["Parcel", "commands_max_of", "parcels_of", "unpack"]

#: Commands in one call at most: more would save nothing, and keep others on the connection waiting.
_COMMANDS_MAX = 256
#: At least so many calls are to be under way, so that the server has something to do meanwhile.
_AT_ONCE = 4
#: What a call's params have beside commands, ids and metadata, and the line beside its params.
_AROUND_BYTES = 256

_read = msgspec.json.Decoder(Outcomes).decode


class Parcel(NamedTuple):
    """Commands that are sent together."""

    #: Which they are.
    places: list[int]
    #: The params of the call.
    params: bytes
    #: Whether all have an id, so that sending it twice does what sending it once does.
    repeatable: bool


def commands_max_of(limits: ClientLimits) -> int:
    """How many commands are sent in one call, at most."""
    return max(1, min(_COMMANDS_MAX, limits.in_flight_max // _AT_ONCE))


def parcels_of(
    todo: Sequence[Command],
    ids: Sequence[str | None],
    metadata: Metadata | None,
    limits: ClientLimits,
    refused: MutableMapping[int, Receipt[Any] | MillstreamError],
) -> Iterator[Parcel]:
    """Commands in order, as many together as fit.

    Args:
        todo: the commands.
        ids: one for each.
        metadata: what all have.
        limits: the client's.
        refused: takes those that can't be sent, and why.
    """
    beside = b"" if metadata is None else b',"metadata":' + encode(metadata)
    most = commands_max_of(limits)
    room = limits.frame_bytes_max - len(beside) - _AROUND_BYTES
    places, commands, names, left = list[int](), list[bytes](), list[bytes](), room
    for place, command in enumerate(todo):
        try:
            written = json_of(command)
            require_promise(command)
            name = ids[place]
            named = b"null" if name is None else encode(checked_command_id(name))
        except MillstreamError as error:
            refused[place] = error
            continue
        size = len(written) + len(named) + 2
        if places and (size > left or len(places) >= most):
            yield _parcel(places, commands, names, beside)
            places, commands, names, left = [], [], [], room
        places.append(place)
        commands.append(written)
        names.append(named)
        left -= size
    if places:
        yield _parcel(places, commands, names, beside)


def _parcel(places: list[int], commands: list[bytes], names: list[bytes], beside: bytes) -> Parcel:
    unnamed = names.count(b"null")  # an id has quotes
    ids = b"" if unnamed == len(names) else b',"command_ids":[%b]' % b",".join(names)
    return Parcel(places, b'"commands":[%b]%b%b' % (b",".join(commands), ids, beside), not unnamed)


def unpack(
    call: Call, outcome: Any, commands: Sequence[Command], believed: Callable[[Call, MillstreamError], MillstreamError]
) -> Sequence[Receipt[Any] | MillstreamError]:
    """What became of each command of a call, as its caller is to see it.

    Args:
        call: the call.
        outcome: its result, or the error of all of them.
        commands: those that it had.
        believed: tells what an error of one of them means.
    """
    if isinstance(outcome, MillstreamError):
        return [_told(_another(outcome), command, call.deadline) for command in commands]
    try:
        outcomes = _read(outcome).outcomes
        if len(outcomes) != len(commands):
            raise msgspec.ValidationError(f"there are {len(outcomes):,} of them, of {len(commands):,} commands")
        found: list[Receipt[Any] | MillstreamError] = []
        for each, command in zip(outcomes, commands, strict=True):
            if each.result is not UNSET:
                found.append(_promised(command, each.result))
            elif each.error is not UNSET:
                error = error_of(each.error)
                found.append(_told(mended(believed(call, error)), command, call.deadline))
            else:
                raise msgspec.ValidationError("one has neither result nor error")
    except msgspec.DecodeError as error:
        problem = f"what came back are no outcomes: {error}"
        return [RemoteError(INTERNAL_ERROR, problem) for _ in commands]
    return found


def _promised(command: Command, receipt: Receipt) -> Receipt[Any] | MillstreamError:
    try:
        return promised(command, receipt)
    except AnswerUnreadable as error:
        return error


def _told(error: MillstreamError, command: Command, deadline: Deadline | None) -> MillstreamError:
    """The error in its caller's words."""
    if not isinstance(error, DeadlineExceeded):
        return error
    told = as_told(error, command, deadline)
    told.__cause__ = error.__cause__
    return told


def _another(error: MillstreamError) -> MillstreamError:
    """The same error: a caller that raises it adds to its traceback, and to no other's."""
    made = type(error).__new__(type(error), *error.args)  # not every class is made by its args alone
    made.__dict__.update(error.__dict__)
    made.__cause__ = error.__cause__
    return made

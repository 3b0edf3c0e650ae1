"""What millstream is sent and asked, as lines of its protocol, and whether what it replied is right.

Pure: values to bytes, and back. The ids of requests are 0, 1, 2 … in the order in which they are given.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any, TypeVar

import msgspec

from millstream.bench.bank import AllBalances, BalanceOf
from millstream.bench.socket.load import Burst, Exchange, WrongReply
from millstream.engine import Answered, Command, Receipt

__all__ = ["asks", "balances", "executes", "receipts", "require_answers"]

_encode = msgspec.json.Encoder().encode

Result = TypeVar("Result")


def executes(commands: Iterable[Command], in_flight: int) -> list[Burst]:
    """Commands, as bursts of so many requests."""
    return _bursts(({"command": command} for command in commands), "execute", in_flight)


def asks(queries: Iterable[BalanceOf | AllBalances], in_flight: int, *, after: int | None = None) -> list[Burst]:
    """Questions, as bursts of so many requests; the answers are to reflect what is there up to position ``after``."""
    token = {} if after is None else {"after": after}
    return _bursts(({"query": query, **token} for query in queries), "ask", in_flight)


def _bursts(params: Iterable[dict[str, object]], method: str, in_flight: int) -> list[Burst]:
    lines = [
        _encode({"jsonrpc": "2.0", "id": number, "method": method, "params": each}) + b"\n"
        for number, each in enumerate(params)
    ]
    groups = [lines[start : start + in_flight] for start in range(0, len(lines), in_flight)]
    return [Burst(b"".join(group), len(group)) for group in groups]


def receipts(bursts: Sequence[Burst], exchange: Exchange) -> list[Receipt]:
    """The receipts of commands with one event each, in the order of the commands.

    Raises:
        WrongReply: a reply is no receipt, or not on its connection, or the positions are not as many as the commands.
    """
    found = _results(bursts, exchange, Receipt)
    positions = sorted(receipt.position for receipt in found)
    if positions != list(range(positions[0], positions[0] + len(found))):
        raise WrongReply(f"{len(found):,} receipts do not name {len(found):,} positions in a row")
    return found


def require_answers(
    bursts: Sequence[Burst], exchange: Exchange, queries: Sequence[BalanceOf], right: Mapping[str, int]
) -> None:
    """See that every question has its answer.

    Raises:
        WrongReply: a reply is no answer, or not on its connection, or not the right one.
    """
    found: list[Answered[int | None]] = _results(bursts, exchange, Answered[int | None])
    for query, answered in zip(queries, found, strict=True):
        if answered.answer != right[query.account]:
            raise WrongReply(f"{query} was answered with {answered.answer}, and not with {right[query.account]}")


def balances(bursts: Sequence[Burst], exchange: Exchange) -> dict[str, int]:
    """The answer to one `AllBalances`."""
    (found,) = _results(bursts, exchange, Answered[dict[str, int]])
    return found.answer


def _results(bursts: Sequence[Burst], exchange: Exchange, kind: type[Result]) -> list[Result]:
    """What came for every request, in the order of the requests."""
    reply: Any = msgspec.defstruct(
        "Reply", [("id", int), ("result", kind), ("jsonrpc", str)], forbid_unknown_fields=True, gc=False
    )
    decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(reply)
    starts = [0, *accumulate(burst.ends for burst in bursts)]
    found: dict[int, Result] = {}
    for said, heard in zip(exchange.said, exchange.heard, strict=True):
        replies = _read(decoder, heard)
        sent = [request for number in said for request in range(starts[number], starts[number + 1])]
        if sorted(each.id for each in replies) != sorted(sent):
            raise WrongReply("a connection got replies that are not those to its requests")
        found.update((each.id, each.result) for each in replies)
    return [found[request] for request in range(starts[-1])]


def _read(decoder: msgspec.json.Decoder[Any], heard: bytes) -> list[Any]:
    try:
        return decoder.decode_lines(heard)
    except msgspec.DecodeError:
        for line in heard.splitlines():
            try:
                decoder.decode(line)
            except msgspec.DecodeError as error:
                raise WrongReply(f"{line.decode(errors='replace'):.500}: {error}") from error
        raise

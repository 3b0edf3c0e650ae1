"""What a shell offers while a message is written: names of commands and queries, and then of their fields.

Here: asking the server that the words before name, for a moment at most. Not here: anything else that a shell completes
(typer does). Whatever goes wrong, nothing is offered: a shell that completes shows no errors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import msgspec
import typer

from millstream.engine.cli.connection_options import Caller
from millstream.engine.cli.rendering import fields_of, messages_in
from millstream.engine.client import Link
from millstream.engine.wire.address import DEFAULT_ADDRESS

__all__ = ["messages_of"]

_SECONDS_MAX = 1.0


def messages_of(kind: str) -> Callable[[typer.Context, list[str], str], list[str]]:
    """What completes the words of a message.

    Args:
        kind: ``command`` or ``query``.
    """

    def complete(context: typer.Context, _: list[str], incomplete: str) -> list[str]:
        try:
            return _offered(kind, context.params, incomplete)
        except BaseException:  # noqa: BLE001 - typed in a shell, before anything was asked for
            return []

    return complete


def _offered(kind: str, params: dict[str, Any], incomplete: str) -> list[str]:
    document = anyio.run(_described, params)
    fields = {name: fields for each, name, fields, _ in messages_in(document) if each == kind}
    words = [word for word in params.get("message") or () if word != incomplete]
    if not words:
        return [name for name in fields if name.startswith(incomplete)]
    given = {word.partition("=")[0].rstrip(":") for word in words}
    offered = (
        f"{name}{'=' if is_text else ':='}" for name, is_text in fields_of(fields[words[0]]) if name not in given
    )
    return [each for each in offered if each.startswith(incomplete)]


async def _described(params: dict[str, Any]) -> Any:
    caller = Caller(*(params.get(name) for name in Caller._fields))
    with anyio.fail_after(_SECONDS_MAX):
        async with Link(params.get("address") or DEFAULT_ADDRESS, token=caller.token, tls=caller.tls) as link:
            return msgspec.json.decode(await link.call("describe"))

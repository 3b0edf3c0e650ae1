"""A commit's body, read a second time: by json alone, by `docs/reference/log.md`, and by no code of the engine.

What proofs find wrong is to be found also where the engine reads its own log wrongly.
"""

from __future__ import annotations

import json
from typing import Any

__all__ = ["commands_in", "failed_in", "owes_in", "settled_in", "timers_in"]

#: What a command may be given to have, and the column that says it.
_TOLD = {
    "id": "ids",
    "payload": "payloads",
    "answer": "answers",
    "actor": "actors",
    "correlation": "correlations",
    "causation": "causations",
    "trace": "traces",
    "extra": "extras",
}


def commands_in(body: str | bytes) -> list[dict[str, Any]]:
    """The commands of a body in order, each an object as format 1 has it; what is not there is left out.

    Raises:
        ValueError, LookupError, TypeError: it is no body.
    """
    read = json.loads(body)
    if isinstance(read, list):
        return read
    commands: list[dict[str, Any]] = []
    origins = {origin["command"]: origin for origin in read.get("origins", ())}
    of = read.get("of", range(read["commands"]))
    offset = 0
    for index in range(read["commands"]):
        events = [event for event, owner in zip(read["events"], of, strict=True) if owner == index]
        keys = [event.get(read.get("key", {}).get(event["type"])) for event in events]
        own = read.get("keys", [None] * read["commands"])[index]
        key = None if own is False else own or (keys[0] if keys else None)
        command: dict[str, Any] = {"type": read["type"] if "type" in read else read["types"][index]}
        if key is not None:
            command["key"] = key
        for name, column in _TOLD.items():
            if column in read and read[column][index] is not None:
                command[name] = read[column][index]
        if index in origins:
            command["origin"] = origins[index]
        if offset:
            command["offset"] = offset
        if any(each != key for each in keys):
            command["keys"] = keys
        command["events"] = events
        offset += len(events)
        commands.append(command)
    return commands


def failed_in(body: str | bytes) -> list[dict[str, Any]]:
    """What a body says has failed, each as it is written there.

    Raises:
        ValueError: it is no JSON.
    """
    read = json.loads(body)
    return [] if isinstance(read, list) else read.get("failed", [])


def timers_in(body: str | bytes) -> list[dict[str, Any]]:
    """The timers that a body says are set or called off, each as it is written there.

    Raises:
        ValueError: it is no JSON.
    """
    read = json.loads(body)
    return [] if isinstance(read, list) else read.get("timers", [])


def settled_in(body: str | bytes) -> list[dict[str, Any]]:
    """What a body says became of what was owed, each as it is written there.

    Raises:
        ValueError: it is no JSON.
    """
    read = json.loads(body)
    return [] if isinstance(read, list) else read.get("settled", [])


def owes_in(body: str | bytes) -> dict[str, list[str]]:
    """By type of event, the effects that a body says are owed for each.

    Raises:
        ValueError: it is no JSON.
    """
    read = json.loads(body)
    return {} if isinstance(read, list) else read.get("owes", {})

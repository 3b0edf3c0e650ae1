"""On what terms a command is to be executed: plain values."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from millstream.engine.application.messages import Metadata

__all__ = ["Deadline", "Options"]


class Deadline(NamedTuple):
    """When a command expires, on the clock `elapsed`, and the seconds that its caller gave."""

    at: float
    timeout_seconds: float


class Options(msgspec.Struct, frozen=True, gc=False):
    """On what terms a command is to be executed, where its caller named any.

    ``payload`` is the digest of the command, there if ``command_id`` is.
    """

    command_id: str | None = None
    payload: str = ""
    expected_version: int | None = None
    metadata: Metadata | None = None
    deadline: Deadline | None = None

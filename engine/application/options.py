"""What a caller may ask for beside a command: plain values."""

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
    """What the caller of a command asked for beside it, where it asked for anything.

    ``payload`` is the digest of the command, there if ``command_id`` is.
    """

    command_id: str | None = None
    payload: str = ""
    expected_version: int | None = None
    metadata: Metadata | None = None
    deadline: Deadline | None = None

"""What a caller may ask for beside a command: plain values."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from millstream.engine.application.messages import Metadata

__all__ = ["Deadline", "Options", "Terms"]


class Options(msgspec.Struct, frozen=True, gc=False):
    """What a caller asks for beside a command, as it says it: `Engine.execute` says what each means.

    This is the one list of them. The params of a request for ``execute`` derive from it.
    """

    command_id: str | None = None
    expected_version: int | None = None
    metadata: Metadata | None = None
    timeout: float | None = None
    wait: bool = True


class Deadline(NamedTuple):
    """When a command expires, on the clock `elapsed`, and the seconds that its caller gave."""

    at: float
    timeout_seconds: float


class Terms(msgspec.Struct, frozen=True, gc=False):
    """What the writer has to know of a caller's options, checked. A command without any has None instead.

    ``payload`` is the digest of the command, there if ``command_id`` is.
    """

    command_id: str | None = None
    payload: str = ""
    expected_version: int | None = None
    metadata: Metadata | None = None
    deadline: Deadline | None = None

    @property
    def actor(self) -> str | None:
        """Who asks, as far as the caller says."""
        return None if self.metadata is None else self.metadata.actor

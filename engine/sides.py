"""The two protocols that the engine runs: the write side decides and applies, the read side applies and answers.

`penstock.handlers.WriteModel` and `penstock.views.View` satisfy them; anything else that does is as good. A class of
either side is constructed without arguments: that is its state before the first event.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

from penstock.engine.declare import Method

__all__ = ["ReadSide", "WriteSide"]


class WriteSide(Protocol):
    """The state that decides. Decide: (state, command) → events, pure. Apply: (state, event) → state, in place."""

    __handlers__: ClassVar[Mapping[type[Any], Method]]
    __appliers__: ClassVar[Mapping[type[Any], Method]]

    def __init__(self) -> None: ...


class ReadSide(Protocol):
    """A state that answers. Apply: (state, event) → state, in place. Answer: (state, query) → answer, pure."""

    __appliers__: ClassVar[Mapping[type[Any], Method]]
    __answerers__: ClassVar[Mapping[type[Any], Method]]

    def __init__(self) -> None: ...

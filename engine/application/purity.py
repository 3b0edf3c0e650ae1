"""The proof that a function only read the state it was given: the state's fingerprint before and after.

For development and tests (``Engine(…, check_purity=True)``): it costs a pass over the whole state for every command.
"""

from __future__ import annotations

import pickle
from io import BytesIO
from typing import Any

from millstream.engine.application.methods import place_of
from millstream.engine.errors import DefinitionError

__all__ = ["fingerprint"]


def fingerprint(state: Any) -> bytes:
    """Bytes that differ when the state differs.

    Pickle rather than a copy and ``==``, because states may hold values that compare by identity only.

    Raises:
        DefinitionError: the state holds something that can't be pickled, so its purity can't be checked.
    """
    try:
        written = BytesIO()
        _Pickler(written).dump(state)
        return written.getvalue()
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise DefinitionError(
            f"check_purity needs a state that can be pickled: {error}", place_of(type(state))
        ) from error


class _Pickler(pickle.Pickler):
    """Writes a class that is made within a function by its name: what is written is never read."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, type) and "<locals>" in value.__qualname__:
            return str, (f"{value.__module__}.{value.__qualname__}",)
        return NotImplemented

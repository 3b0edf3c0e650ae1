"""What an error says of itself."""

from __future__ import annotations

__all__ = ["message_of", "said_by"]


def said_by(error: BaseException) -> str:
    """An error as ``repr`` shows it; its type's name where that fails, which is its own fault. Never raises."""
    try:
        return repr(error)
    except Exception:  # noqa: BLE001 - whatever it is: nothing that user code raises may end an actor
        return type(error).__name__


def message_of(error: BaseException) -> str:
    """An error's own words; what `said_by` says where it has none. Never raises."""
    try:
        return str(error) or repr(error)
    except Exception:  # noqa: BLE001 - as above
        return said_by(error)

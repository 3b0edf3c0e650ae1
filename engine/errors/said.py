"""What an error says of itself, and what the log keeps of that."""

from __future__ import annotations

from millstream.engine.errors.root import MillstreamError

__all__ = ["cut", "message_of", "said_by", "told_of"]

#: How much of an error's text the log keeps.
_TEXT_CHARS_MAX = 1_000


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


def told_of(error: BaseException) -> tuple[str, str]:
    """What the log keeps of an error: its type, and what it says."""
    text = str(error) if isinstance(error, MillstreamError) else said_by(error)
    return type(error).__name__ or "Exception", cut(text)


def cut(text: str) -> str:
    """What the log keeps of a text that user code wrote."""
    whole = text.encode("utf-8", "backslashreplace").decode()  # half of a character is none in JSON
    return whole if len(whole) <= _TEXT_CHARS_MAX else f"{whole[:_TEXT_CHARS_MAX]}…"

"""A log's id: what tells it from every other log. The one thing in a store that is random; nothing follows from it."""

from __future__ import annotations

import secrets

__all__ = ["new_log_id"]

_BYTES = 16


def new_log_id() -> str:
    """An id that no other log has: 128 random bits, as hex."""
    return secrets.token_hex(_BYTES)

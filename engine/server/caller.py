"""Who calls, as far as a server knows: the role of its token, for what runs on the caller's behalf.

Here: one variable of the context. It is set where a task is made for a request, and read at the `edge`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["calling_as", "role_of_caller"]

_role: ContextVar[str | None] = ContextVar("millstream_role", default=None)


def role_of_caller() -> str | None:
    """The role; None in process, where there is none."""
    return _role.get()


@contextmanager
def calling_as(role: str | None) -> Iterator[None]:
    """In this block, a caller of this role is served."""
    token = _role.set(role)
    try:
        yield
    finally:
        _role.reset(token)

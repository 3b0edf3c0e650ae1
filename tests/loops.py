"""For which tests one loop is enough."""

from __future__ import annotations

import pytest

__all__ = ["one_loop"]

#: A test that does much of which the loop does nothing: it reads and damages files, or computes.
one_loop = pytest.mark.parametrize("anyio_backend", ["asyncio"])

"""What must be done before the harness runs its programs in the threads of a test."""

from __future__ import annotations

import gc
from importlib import import_module
from importlib.util import find_spec

import pytest

if find_spec("umadb"):  # it sets a handler of signals when it is imported, which only the main thread may
    import_module("umadb")


@pytest.fixture(scope="module", autouse=True)
def what_was_there_is_set_aside() -> None:
    """Programs collect garbage before each of their runs: what tests before have left alive is none of theirs."""
    gc.collect()
    gc.freeze()

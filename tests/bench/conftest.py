"""What must be done before the harness runs its programs in the threads of a test."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

if find_spec("umadb"):  # it sets a handler of signals when it is imported, which only the main thread may
    import_module("umadb")

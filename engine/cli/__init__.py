"""The command line ``millstream``. Needs the extra ``millstream[cli]``, and says so without it."""

from millstream.engine.cli.start import main

__all__ = ["main"]

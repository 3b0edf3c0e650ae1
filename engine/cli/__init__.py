"""The command line ``penstock``. Needs the extra ``penstock[cli]``, and says so without it."""

from penstock.engine.cli.start import main

__all__ = ["main"]

"""The program ``millstream``, before anything of the engine is imported: that may be interrupted."""

from millstream.program.start import main

__all__ = ["main"]

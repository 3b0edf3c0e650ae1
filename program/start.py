"""Where the console script begins.

Here: what an interrupt means while the engine is being imported. Not here: everything else (`engine.cli`).
"""

from __future__ import annotations

__all__ = ["main"]

#: As for a shell: 128 and the number of SIGINT.
_INTERRUPTED = 130


def main() -> int:
    """Run the command line, and return the exit code; an interrupt is one too, at any moment."""
    try:
        from millstream.engine.cli import main as run  # noqa: PLC0415 - what takes the moment

        return run()
    except KeyboardInterrupt:
        return _INTERRUPTED

"""Where the program begins. The only room of the command line that works without the extra ``cli``."""

from __future__ import annotations

import io
import sys
import traceback
from collections.abc import Sequence
from importlib.util import find_spec

__all__ = ["main"]

_NEEDS = ("typer", "rich")


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the arguments say, ``sys.argv`` if none are given, and return the exit code (`exits`).

    An error that millstream knows is one line on standard error. Any other is a traceback: a bug, and exit code 70.
    """
    missing = [name for name in _NEEDS if find_spec(name) is None]
    if missing:
        needed = " and ".join(missing)
        sys.stderr.write(f"millstream: the command line needs {needed}: install the extra millstream[cli]\n")
        return 2
    _buffer_output()
    from millstream.engine.cli.exits import ExitCode  # noqa: PLC0415 - what follows needs the extra
    from millstream.engine.cli.root import app  # noqa: PLC0415

    try:
        app(args=arguments, prog_name="millstream")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else ExitCode.FINE
    except Exception:  # noqa: BLE001 - shown whole; but Python would exit with 1, which means that a log is damaged
        traceback.print_exc()
        return ExitCode.BUG
    return ExitCode.FINE


def _buffer_output() -> None:
    """Where Python is asked not to buffer (``PYTHONUNBUFFERED``), what a full disk or a closed pipe does not take of a
    text is dropped without an error (https://github.com/python/cpython/issues/85393). So buffer again.
    """
    out = sys.stdout
    if isinstance(getattr(out, "buffer", None), io.RawIOBase):
        sys.stdout = open(out.fileno(), "w", encoding=out.encoding, errors=out.errors, closefd=False)  # noqa: SIM115

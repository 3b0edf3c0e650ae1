"""Arguments that several command lines of the harness take."""

from __future__ import annotations

import argparse

__all__ = ["count"]


def count(text: str) -> int:
    """An argument that is a whole number from 1 on.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number from 1 on, not {text!r}")
    return int(text)

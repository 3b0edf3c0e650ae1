"""The figures, by kind."""

from millstream.bench.figures.table import FIGURES

__all__ = ["FIGURES"]

"""The figures, as data: which contenders stand beside each other, on which workload, and what the goal is.

Here: all of them, in the order of a report. Not here: any one; they are in the other modules, by kind. A new question
to the engine is a new `Figure` there.
"""

from __future__ import annotations

from millstream.bench.figures.features import FEATURES
from millstream.bench.figures.loads import LOADS
from millstream.bench.figures.peers import PEERS
from millstream.bench.figures.postgres import POSTGRES
from millstream.bench.figures.replicas import REPLICAS
from millstream.bench.figures.sockets import SOCKETS
from millstream.bench.figures.states import STATES
from millstream.bench.http.figures import HTTP

__all__ = ["FIGURES"]

FIGURES = (*FEATURES, *STATES, *LOADS, *PEERS, *SOCKETS, *HTTP, *REPLICAS, *POSTGRES)

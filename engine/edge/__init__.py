"""The edge: what runs around every command and question that comes from a caller, and around nothing else."""

from millstream.engine.edge.edge import Edge
from millstream.engine.edge.middleware import Ask, Asking, Execute, Executing, Middleware

__all__ = ["Ask", "Asking", "Edge", "Execute", "Executing", "Middleware"]

"""A refusal tells of a state, and at which position that was.

Here: saying so in what an application or the index raised. Not here: what becomes a refusal (`state`), and when it is
raised (`writer`).

Invariant: no two callers get one object with a position, whatever object an application raises.
"""

from __future__ import annotations

from millstream.engine.errors import CommandIdReused, MillstreamError, Rejected, VersionConflict

__all__ = ["decided_at"]

_TELL_A_STATE = (Rejected, VersionConflict, CommandIdReused)


def decided_at(refusal: MillstreamError, position: int | None) -> MillstreamError:
    """The refusal with the position of the state that it tells of; None where that need not become durable.

    Others are given back as they are. One that has a position, because its object was raised before or its author
    gave it one, stays as it is too, and a copy is given back.
    """
    if not isinstance(refusal, _TELL_A_STATE):
        return refusal
    fields = refusal.__dict__  # not by attribute: an application's own class may have a property of that name
    if fields.get("position") is not None:
        refusal = _copied(refusal)
        fields = refusal.__dict__
    fields["position"] = position
    return refusal


def _copied(error: MillstreamError) -> MillstreamError:
    """Not by its constructor, whose arguments are unknown where an application has a class of its own."""
    again = Exception.__new__(type(error), *error.args)
    again.__dict__.update(error.__dict__)
    again.__traceback__, again.__context__ = error.__traceback__, error.__context__
    again.__cause__, again.__suppress_context__ = error.__cause__, error.__suppress_context__
    return again

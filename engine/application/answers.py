"""What a view's answer goes through before anybody gets it.

Here: the looks that an answer's type makes necessary. Not here: who asks, and what becomes of what a view raises.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import msgspec

from millstream.engine.application.doors import NESTING_MAX, TOO_DEEP, is_deeper, is_finite, require_finite
from millstream.engine.application.kinds import hides_nan, kind_of, nests
from millstream.engine.application.validation import encode

__all__ = ["answering"]


def answering(function: Callable[[Any, Any], Any], promised: Any) -> Callable[[Any, Any], Any]:
    """An answering method that gives nothing which would arrive as something else over a socket or in a watch.

    Where ``promised`` can't hide such a thing it is the method itself.

    Args:
        function: the method, called with state and query.
        promised: the type of its answers.
    """
    kind = kind_of(promised)
    if not nests(kind) and not hides_nan(kind):
        return function

    @wraps(function)
    def answer(state: Any, query: Any) -> Any:
        answered = function(state, query)
        _require_portable(answered)
        return answered

    return answer


def _require_portable(answered: Any) -> None:
    """See that an answer is not nested too deeply, and holds no NaN.

    Raises:
        msgspec.ValidationError: it is, or does.
    """
    try:
        data = encode(answered)
    except RecursionError as error:
        raise msgspec.ValidationError(TOO_DEEP) from error
    except Exception:  # noqa: BLE001 - JSON has no such thing, so it is for this process alone: a socket and a watch say so
        return
    if is_deeper(data, NESTING_MAX):
        raise msgspec.ValidationError(TOO_DEEP)
    if data.find(b"null") >= 0 and not is_finite(answered):
        require_finite(answered)

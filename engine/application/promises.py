"""What a command promises to answer: how its handler's answer is checked, written down, and read again.

Here: the promise of a class, and the check that its handler keeps it, as far as annotations tell. Not here: who
remembers an answer (`millstream.engine.write.index`).

An answer is written as JSON and read back before anything of its command is applied. So what a caller gets is its own,
and is what a repeat gets, and what arrives over a socket.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from types import NoneType
from typing import Any, NamedTuple, TypeVar, get_args, get_origin

import msgspec

from millstream.engine.application.doors import TOO_DEEP, require_finite
from millstream.engine.application.forms import require_readable
from millstream.engine.application.kinds import hides_nan, kind_of
from millstream.engine.application.messages import Command
from millstream.engine.application.methods import Method, place_of
from millstream.engine.application.validation import encode, reader
from millstream.engine.errors import AnswerTooLarge, DefinitionError

__all__ = ["Given", "Promise", "promise_of", "promised_by", "require_kept"]

_NOTHING = (object, None, NoneType)
_NULL = b"null"


class Given(NamedTuple):
    """An answer: as JSON, None if that is null; and a copy for its caller to keep."""

    data: bytes | None
    own: Any


class Promise(NamedTuple):
    """What a class of commands promises."""

    kind: Any
    #: Reads and checks an answer from its JSON; None is null. Raises msgspec.DecodeError.
    read: Callable[[bytes], Any]
    hides_nan: bool

    def reread(self, data: bytes | None) -> Any:
        """An answer from what `given` made of it, for one who gets it.

        Raises:
            msgspec.DecodeError: today it is none.
        """
        return self.read(_NULL if data is None else data)

    def given(self, command: str, answer: Any, answer_bytes_max: int) -> Given:
        """What a handler has returned.

        Args:
            command: whose answer it is, for errors.
            answer: the handler's own.
            answer_bytes_max: how many bytes it may have.

        Raises:
            AnswerTooLarge: it has more.
            Exception: it is not what was promised.
        """
        try:
            data = encode(answer)
        except RecursionError as error:
            raise msgspec.ValidationError(TOO_DEEP) from error
        if len(data) > answer_bytes_max:
            raise AnswerTooLarge(command, len(data), answer_bytes_max)
        try:
            if self.hides_nan and data.find(_NULL) >= 0:
                require_finite(answer)
            own = self.read(data)
        except msgspec.DecodeError as error:
            raise msgspec.ValidationError(f"its answer is not what {command} promises: {error}") from error
        return Given(None if data == _NULL else data, own)


def promised_by(command: type[Command[Any]]) -> Any:
    """The type of a command's answer: ``int`` for ``class Count(Command[int])``; None if it promises none.

    Raises:
        DefinitionError: it is a variable.
    """
    for cls in command.__mro__:
        for base in cls.__dict__.get("__orig_bases__", ()):
            origin = get_origin(base)
            if not (isinstance(origin, type) and issubclass(origin, Command)):
                continue
            kind = get_args(base)[0]
            if isinstance(kind, TypeVar) or bool(getattr(kind, "__parameters__", None)) or origin is not Command:
                raise DefinitionError(
                    f"{command.__name__} does not say what its answer is: derive it from Command[…] with the type "
                    "itself, as in class Hold(Command[tuple[int, ...]])",
                    place_of(command),
                )
            return None if kind in _NOTHING else kind
    return None


def promise_of(command: type[Command[Any]]) -> Promise | None:
    """A command's promise; None if it has none.

    Raises:
        DefinitionError: it is a variable, or JSON can't hold it.
    """
    kind = promised_by(command)
    if kind is None:
        return None
    require_readable(kind, place_of(command))
    return Promise(kind, reader(kind), hides_nan(kind_of(kind)))


def require_kept(command: type[Command[Any]], method: Method) -> None:
    """See that the annotation of a handler says the answer that its command promises.

    Raises:
        DefinitionError: it says another one, or none, or one where none is promised; names both places.
    """
    promised, returns = promised_by(command), method.returns
    parts = get_args(returns) if get_origin(returns) is Generator else ()
    said = parts[2] if len(parts) == 3 else None
    said = None if said in _NOTHING or isinstance(said, TypeVar) else said
    if promised is None and said is not None and said is not Any:
        raise DefinitionError(
            f"the handler answers {said!r}, and {command.__name__} promises no answer: write "
            f"class {command.__name__}(Command[…])",
            method.place,
            place_of(command),
        )
    if promised is not None and said != promised:
        what = f"says that it returns {returns!r}" if said is None else f"answers {said!r}"
        raise DefinitionError(
            f"{command.__name__} promises {promised!r}, and its handler {what}: write -> Decision[…] with what the "
            "command promises",
            method.place,
            place_of(command),
        )

"""Headers: what a request may ask for beside its message, and what an answer tells beside its body.

Here: the one table of them, and reading them. Not here: what they mean to an engine (`Engine.execute`, `Engine.ask`).

Invariant: a header that is ours and can't be read is an error; none is passed over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

from millstream.engine.application.messages import At, Metadata
from millstream.engine.application.options import Options
from millstream.engine.application.validation import at_in
from millstream.engine.errors import InvalidMessage

__all__ = ["ANSWER_HEADERS", "HEADERS", "AnswerHeader", "Header", "Headers", "Operation"]

#: What is asked: a command, a question, a watch, or to follow the log.
Operation: TypeAlias = Literal["commands", "queries", "watch", "events"]

_COUNT_MAX = 2**63 - 1
_SECONDS_MAX = 1e9
_EXTRA = "millstream-extra-"


class Header(NamedTuple):
    """A header of a request: where it means something, the JSON Schema of its value, and what it says."""

    name: str
    used_in: tuple[Operation, ...]
    schema: Mapping[str, Any]
    says: str


class AnswerHeader(NamedTuple):
    """A header of an answer."""

    name: str
    used_in: tuple[Operation, ...]
    schema: Mapping[str, Any]
    says: str


_TEXT: Mapping[str, Any] = {"type": "string"}
_COUNT: Mapping[str, Any] = {"type": "integer", "minimum": 0}
_SECONDS: Mapping[str, Any] = {"type": "number", "minimum": 0}
_TRUTH: Mapping[str, Any] = {"type": "boolean"}
_ASKED: tuple[Operation, ...] = ("queries", "watch")

HEADERS: tuple[Header, ...] = (
    Header("Idempotency-Key", ("commands",), _TEXT, "the command's id: it is executed once, however often it is sent"),
    Header("Expected-Version", ("commands",), _COUNT, "only if the command's key has so many events"),
    Header("Millstream-Actor", ("commands",), _TEXT, "who asks, as far as the caller says"),
    Header("Millstream-Correlation", ("commands",), _TEXT, "the conversation that it belongs to"),
    Header("Millstream-Causation", ("commands",), _TEXT, "the message that led to it"),
    Header("Traceparent", ("commands",), _TEXT, "where it stands in a distributed trace, as W3C has it"),
    Header("Millstream-Extra-NAME", ("commands",), _TEXT, "anything else that is kept with it, under this name"),
    Header("Millstream-Wait", ("commands",), _TRUTH, "false: an error where the mailbox is full, instead of waiting"),
    Header("Millstream-Timeout", ("commands", "queries"), _SECONDS, "seconds after which to give up"),
    Header("Millstream-After", (*_ASKED, "events"), _COUNT, "a position: what is answered is no older"),
    Header("Millstream-At", ("queries",), _TEXT, "yesterday's answer: as of a position, or of a time with a zone"),
    Header("Millstream-Incomplete", _ASKED, _TRUTH, "true: an answer of a view that has left out events will do"),
    Header("If-None-Match", ("queries",), _TEXT, "the answer is sent only if it has none of these tags"),
    Header("Last-Event-ID", ("watch", "events"), _COUNT, "goes on behind this position"),
)

ANSWER_HEADERS: tuple[AnswerHeader, ...] = (
    AnswerHeader("Millstream-Position", ("commands", "queries"), _COUNT, "a token: give it as `Millstream-After`"),
    AnswerHeader("Millstream-Version", ("commands",), _COUNT, "the key's version: the next `Expected-Version`"),
    AnswerHeader("ETag", ("queries",), _TEXT, "a digest of the answer: give it as `If-None-Match`"),
)

_OURS = frozenset(each.name.lower() for each in HEADERS)


class Headers:
    """Those of one request that are ours.

    Args:
        raw: as ASGI has them: names in lower case.

    Raises:
        InvalidMessage: one is given twice, or is no UTF-8.
    """

    def __init__(self, raw: Iterable[tuple[bytes, bytes]]) -> None:
        self._found: dict[str, str] = {}
        for name_bytes, value in raw:
            name = name_bytes.decode("latin-1")
            if name in _OURS or name.startswith(_EXTRA):
                if name in self._found and name != "if-none-match":
                    raise InvalidMessage(name, "a header that is given once")
                try:
                    text = value.decode()
                except UnicodeDecodeError as error:
                    raise InvalidMessage(name, "a text in UTF-8") from error
                self._found[name] = f"{self._found[name]}, {text}" if name in self._found else text

    @property
    def options(self) -> Options | None:
        """What is asked for beside a command; None if nothing.

        Raises:
            InvalidMessage: a header is not what it should be.
        """
        if not self._found:
            return None
        wait = self._truth("millstream-wait")
        return Options(
            _unquoted(self._found.get("idempotency-key")),
            self._count("expected-version"),
            self.metadata,
            self.timeout,
            True if wait is None else wait,
        )

    @property
    def metadata(self) -> Metadata | None:
        """What is kept with a command; None if nothing."""
        found = self._found
        extra = {name.removeprefix(_EXTRA): value for name, value in found.items() if name.startswith(_EXTRA)}
        metadata = Metadata(
            found.get("millstream-actor"),
            found.get("millstream-correlation"),
            found.get("millstream-causation"),
            found.get("traceparent"),
            extra or None,
        )
        return None if metadata == Metadata() else metadata

    @property
    def timeout(self) -> float | None:
        """Seconds.

        Raises:
            InvalidMessage: it is no number of them.
        """
        text = self._found.get("millstream-timeout")
        if text is None:
            return None
        try:
            seconds = float(text)
        except ValueError:
            seconds = -1.0
        if not 0 <= seconds <= _SECONDS_MAX:
            raise InvalidMessage(
                "millstream-timeout", f"a number of seconds from 0 to {_SECONDS_MAX:g}, not {text!r:.40}"
            )
        return seconds

    @property
    def after(self) -> int:
        """A position; 0 for none.

        Raises:
            InvalidMessage: it is none.
        """
        return self._count("millstream-after") or 0

    @property
    def last_event_id(self) -> int | None:
        """A position, where a stream goes on.

        Raises:
            InvalidMessage: it is none.
        """
        return self._count("last-event-id")

    @property
    def at(self) -> At | None:
        """A position or a time.

        Raises:
            InvalidMessage: it is neither.
        """
        text = self._found.get("millstream-at")
        return None if text is None else at_in(text)

    @property
    def incomplete(self) -> bool:
        """Whether an incomplete answer will do.

        Raises:
            InvalidMessage: it is neither true nor false.
        """
        return bool(self._truth("millstream-incomplete"))

    def has_tag(self, tag: str) -> bool:
        """Whether the caller has what has this tag, an ``ETag``."""
        given = self._found.get("if-none-match")
        if given is None:
            return False
        return given.strip() == "*" or tag in (each.strip().removeprefix("W/") for each in given.split(","))

    def _count(self, name: str) -> int | None:
        text = self._found.get(name)
        if text is None:
            return None
        if not (text.isascii() and text.isdecimal() and len(text) <= 19 and int(text) <= _COUNT_MAX):
            raise InvalidMessage(name, f"a whole number from 0 on, of at most 63 bits, not {text!r:.40}")
        return int(text)

    def _truth(self, name: str) -> bool | None:
        text = self._found.get(name)
        if text is None:
            return None
        if text not in ("true", "false"):
            raise InvalidMessage(name, f"true or false, not {text!r:.40}")
        return text == "true"


def _unquoted(text: str | None) -> str | None:
    """The draft of ``Idempotency-Key`` has it in quotation marks; many send it without."""
    if text is not None and len(text) > 1 and text[0] == text[-1] == '"':
        return text[1:-1]
    return text

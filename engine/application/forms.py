"""The form that a message has as JSON: what its class may say about it, and what not.

Here: the checks of a message's class against msgspec's own options, made with the `App`. Not here: what its fields
hold (`doors`), and how messages stand to each other (`app`).

A log, the protocol and the SQL view read messages without their classes. They look for an object whose field ``type``
is the class's name, or its ``tag="…"``. Names of fields are the class's own affair: ``rename=…`` is fine.
"""

from __future__ import annotations

import re
from typing import Any, get_origin

import msgspec
from msgspec import inspect

from millstream.engine.application.kinds import reached
from millstream.engine.application.methods import place_of
from millstream.engine.errors import DefinitionError

__all__ = ["require_event", "require_message", "require_readable"]


def require_message(message: type[Any]) -> None:
    """See that messages of a class are objects that say their type.

    Raises:
        DefinitionError: they are not; names the option, and what to write.
    """
    config = message.__struct_config__
    if config.array_like:
        raise DefinitionError(
            "a message is a JSON object, so that a log and a protocol can be read without its class: leave out "
            "array_like=True",
            place_of(message),
        )
    if config.tag is None or config.tag == "" or "\0" in str(config.tag):
        raise DefinitionError(
            f'a message says its type, and tag={config.tag!r} says none: write tag="…", or leave it out for the '
            "class's name",
            place_of(message),
        )
    if re.search(r'["\\\x00-\x1f]', str(config.tag)):
        raise DefinitionError(
            f"a type's name stands in paths of a log's SQL view, so tag={config.tag!r} may hold no quote, no backslash "
            "and no control character",
            place_of(message),
        )
    if config.tag_field != "type":
        raise DefinitionError(
            f"a message says its type in the field 'type', where everybody looks for it: leave out "
            f"tag_field={config.tag_field!r}",
            place_of(message),
        )


def require_event(event: type[Any]) -> None:
    """See that an event is stored whole, with every field, however deep.

    Raises:
        DefinitionError: it has another form, it can't be read back, or a class in it leaves out what has its default,
            so that another default would change what happened.
    """
    require_message(event)
    require_readable(event, place_of(event))
    for kind in reached(inspect.type_info(event)):
        if not isinstance(kind, inspect.StructType):
            continue
        cls = get_origin(kind.cls) or kind.cls
        defaults = zip(reversed(cls.__struct_fields__), reversed(cls.__struct_defaults__), strict=False)
        omitted = [name for name, default in defaults if default not in (msgspec.UNSET, msgspec.NODEFAULT)]
        if cls.__struct_config__.omit_defaults and omitted:
            raise DefinitionError(
                f"{cls.__name__} is stored without {', '.join(reversed(omitted))} where they have their default, and "
                "another default would change what happened: leave out omit_defaults=True; what is stored already is "
                "still read",
                *dict.fromkeys((place_of(event), place_of(cls))),
            )


def require_readable(annotation: Any, *places: str) -> None:
    """See that msgspec can read a message, or any one of a union of them, from its JSON.

    Args:
        annotation: the class, or the union.
        places: what the error names.

    Raises:
        DefinitionError: a field's type is none that msgspec reads, or two in a union look alike; says which.
    """
    try:
        msgspec.json.Decoder(annotation)
    except Exception as error:
        raise DefinitionError(f"it can't be read from JSON: {error}", *places) from error

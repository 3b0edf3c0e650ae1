"""Where a server is: addresses as text, and back. Not here: sockets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from millstream.engine.errors import DefinitionError

__all__ = ["DEFAULT_ADDRESS", "Address", "addresses_of", "is_server", "parse_address"]

#: Where a server listens by default.
DEFAULT_ADDRESS = "tcp://127.0.0.1:7411"

_HOST = re.compile(r"(tcp|tls)://(?:\[([^\s\[\]/@]+)\]|([^\s\[\]/@:]+)):([0-9]{1,5})", re.ASCII)
_PATH = re.compile(r"unix://([^\0]+)", re.DOTALL)
_PORT_MAX = 65_535
#: Between two addresses; a path may have commas.
_BETWEEN = re.compile(r",(?=(?:tcp|tls|unix)://)")


class Address(NamedTuple):
    """``tcp`` and ``tls`` have a host and a port, ``unix`` has a path. As text it is what `parse_address` reads."""

    kind: Literal["tcp", "tls", "unix"]
    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.kind == "unix":
            return f"unix://{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.kind}://{host}:{self.port}"


def addresses_of(given: str | Address | Iterable[str | Address]) -> tuple[Address, ...]:
    """Where servers are: one address, several, or several in one text, apart by commas.

    Raises:
        DefinitionError: there is none, or one is no address.
    """
    if isinstance(given, str):
        texts: Sequence[str | Address] = _BETWEEN.split(given)
    elif isinstance(given, Address) or not isinstance(given, Iterable):
        texts = [given]
    else:
        texts = list(given)
    for each in texts:
        if not isinstance(each, str | Address):
            raise DefinitionError(f"an address is a text or an Address, not {each!r:.200}")
    found = tuple(parse_address(each) if isinstance(each, str) else each for each in texts)
    if not found:
        raise DefinitionError("there is no address: give one at least")
    return found


def is_server(text: str) -> bool:
    """Whether a text is meant as a server's address, and not as a log's."""
    return text.startswith(("tcp://", "tls://", "unix://"))


def parse_address(text: str) -> Address:
    """Read ``tcp://HOST:PORT``, ``tls://HOST:PORT`` or ``unix://PATH``. An IPv6 address as host is in brackets.

    Raises:
        DefinitionError: it is none of them.
    """
    if found := _PATH.fullmatch(text):
        return Address("unix", path=found[1])
    found = _HOST.fullmatch(text)
    if found is None or int(found[4]) > _PORT_MAX:
        raise DefinitionError(f"an address is tcp://HOST:PORT, tls://HOST:PORT or unix://PATH, not {text!r:.200}")
    return Address("tls" if found[1] == "tls" else "tcp", found[2] or found[3], int(found[4]))

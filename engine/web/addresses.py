"""Where HTTP is served: ``HOST:PORT``, ``http://HOST:PORT``, ``https://HOST:PORT`` or ``unix://PATH``."""

from __future__ import annotations

from typing import NamedTuple

from millstream.engine.errors import DefinitionError
from millstream.engine.wire.address import Address, parse_address

__all__ = ["DEFAULT_HTTP", "HttpAddress", "parse_http"]

#: Where a server listens by default.
DEFAULT_HTTP = "http://127.0.0.1:7480"

_SCHEMES = {"tcp": "http", "tls": "https", "unix": "unix"}
_KINDS = {"http": "tcp", "https": "tls"}


class HttpAddress(NamedTuple):
    """An address that is listened on. As text it is what `parse_http` reads."""

    address: Address

    def __str__(self) -> str:
        kind, _, rest = str(self.address).partition("://")
        return f"{_SCHEMES[kind]}://{rest}"

    @property
    def names(self) -> tuple[str, ...]:
        """What a browser on this machine calls it, where only this machine can reach it."""
        return ("localhost", "127.0.0.1", "[::1]", self.address.host)


def parse_http(text: str) -> HttpAddress:
    """Read an address. An IPv6 address as host is in brackets.

    Raises:
        DefinitionError: it is none.
    """
    scheme, colon, rest = text.rpartition("://")
    try:
        if scheme == "unix":
            return HttpAddress(parse_address(text))
        if not colon or scheme in _KINDS:
            return HttpAddress(parse_address(f"{_KINDS[scheme or 'http']}://{rest}"))
    except DefinitionError:
        pass
    raise DefinitionError(
        f"an address for HTTP is HOST:PORT, http://HOST:PORT, https://HOST:PORT or unix://PATH, not {text!r:.200}"
    )

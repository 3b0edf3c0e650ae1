"""Certificates for tests of TLS, as files."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import NamedTuple, Self

import trustme

__all__ = ["Certificates"]


class Certificates(NamedTuple):
    """Files as an operator has them, and the client's side of them: PEM, a key before its certificate."""

    server: Path
    client: Path
    #: Whoever signed those two.
    authority: Path
    #: Somebody for whom another authority vouches.
    stranger: Path
    other_authority: Path

    @classmethod
    def made_in(cls, folder: Path) -> Self:
        """New ones, for this machine."""
        authority, other = trustme.CA(), trustme.CA()
        made = cls(*(folder / f"{name}.pem" for name in cls._fields))
        for path, signer in ((made.server, authority), (made.client, authority), (made.stranger, other)):
            signer.issue_cert("127.0.0.1", "localhost").private_key_and_cert_chain_pem.write_to_path(str(path))
        authority.cert_pem.write_to_path(str(made.authority))
        other.cert_pem.write_to_path(str(made.other_authority))
        return made

    def context(self, own: Path | None = None) -> ssl.SSLContext:
        """How a client connects that trusts the authority, and may have a certificate of its own."""
        context = ssl.create_default_context(cafile=self.authority)
        if own is not None:
            context.load_cert_chain(own)
        return context

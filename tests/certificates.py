"""Certificates for a test: an authority, and whom it vouches for, made anew with the program ``openssl``."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

__all__ = ["Certificates"]

_EXTENSIONS = "subjectAltName=DNS:localhost,IP:127.0.0.1"


class Certificates:
    """An authority and the certificates that it has signed, as PEM files in a folder.

    Skips the test where there is no ``openssl``.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        #: Whom to trust.
        self.authority = folder / "authority.pem"
        self._openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"),
            *("-subj", "/CN=test authority", "-keyout", str(folder / "authority.key"), "-out", str(self.authority)),
        )

    def signed(self, name: str) -> Path:
        """One file with a key, and with a certificate for this machine."""
        pem, key, request = (self._folder / f"{name}.{kind}" for kind in ("pem", "key", "csr"))
        extensions = self._folder / "extensions"
        extensions.write_text(_EXTENSIONS)
        self._openssl(
            *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}"),
            *("-keyout", str(key), "-out", str(request)),
        )
        self._openssl(
            *("x509", "-req", "-in", str(request), "-CA", str(self.authority), "-CAcreateserial", "-days", "2"),
            *("-CAkey", str(self._folder / "authority.key"), "-extfile", str(extensions), "-out", str(pem)),
        )
        pem.write_text(key.read_text() + pem.read_text())
        return pem

    def _openssl(self, *arguments: str) -> None:
        try:
            done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
        except FileNotFoundError:
            pytest.skip("needs certificates, and there is no program 'openssl' to make some")
        assert not done.returncode, done.stderr

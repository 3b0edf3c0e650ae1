"""Where a view in SQL may be, for tests: a file, or a database of PostgreSQL."""

from __future__ import annotations

import secrets

from tests.postgres import Server, script, server

__all__ = ["new_database"]


def new_database(of: Server | None = None) -> str:
    """The address of a new database on a server; views make schemas in it."""
    of, name = of or server(), f"views_{secrets.token_hex(6)}"
    script(of.address("public"), f"CREATE DATABASE {name}")
    return f"postgresql+psycopg://postgres@127.0.0.1:{of.port}/{name}"

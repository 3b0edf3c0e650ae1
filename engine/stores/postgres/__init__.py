"""The log and its snapshots in a PostgreSQL database, through asyncpg (the extra ``postgres``)."""

from millstream.engine.stores.postgres.log import PostgresLog

__all__ = ["PostgresLog"]

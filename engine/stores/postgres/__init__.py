"""The log and its snapshots in a PostgreSQL database, through asyncpg (the extra ``postgres``)."""

__all__: list[str] = []

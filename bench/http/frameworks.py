"""What stands beside the bank over HTTP: FastAPI with an endpoint that does nothing, and with one that writes a row.

Both are served by uvicorn with h11, as millstream is. The row is written as FastAPI's and SQLAlchemy's documentations
have it: an endpoint that is no coroutine, in a thread, a session and a transaction for each. Who is favoured is the
framework: the transactions take turns by a lock, as SQLite's own waiting is a sleep, and the file is in WAL mode, but
``synchronous=FULL``, so that what was answered is as durable as a receipt.
"""

from __future__ import annotations

from pathlib import Path
from threading import Lock
from typing import Any

import sqlalchemy
from fastapi import FastAPI
from pydantic import BaseModel
from sqlalchemy import event, orm

__all__ = ["nothing", "one_row"]


class _Deposit(BaseModel):
    """The body, as the bank has it."""

    account: str
    amount: int


class _Base(orm.DeclarativeBase):
    pass


class _Row(_Base):
    __tablename__ = "deposits"

    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    account: orm.Mapped[str]
    amount: orm.Mapped[int]


def nothing() -> FastAPI:
    """An endpoint that reads its body, checks it, and answers."""
    app = FastAPI()

    @app.post("/commands/Deposit")
    async def deposit(body: _Deposit) -> dict[str, int]:
        return {"amount": body.amount}

    return app


def one_row(path: Path) -> FastAPI:
    """The same, with a row in SQLite before it answers."""
    app, turn = FastAPI(), Lock()
    engine = sqlalchemy.create_engine(f"sqlite:///{path}", connect_args={"timeout": 30}, pool_size=50)
    event.listen(engine, "connect", _durable)
    _Base.metadata.create_all(engine)
    session = orm.sessionmaker(engine)

    @app.post("/commands/Deposit")
    def deposit(body: _Deposit) -> dict[str, int]:
        with turn, session.begin() as db:
            row = _Row(account=body.account, amount=body.amount)
            db.add(row)
            db.flush()
            return {"id": row.id}

    return app


def _durable(connection: Any, _: Any) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")

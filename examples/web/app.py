"""The web application. Run it: ``uvicorn examples.web.app:api``, and open http://127.0.0.1:8000.

The engine lives in this process: its state is in memory, its log in ``SHOP_LOG``, or ``ticket-shop.db``. So there is
one worker. Where one is not enough, `millstream serve` has the log, and each worker a `Client`: see ``SHOP_SERVER``.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Response
from msgspec import structs
from pydantic import BaseModel, Field

from examples.shop.app import FreeSeats, OrderState
from examples.shop.app import app as shop
from examples.shop.orders import CancelOrder, PlaceOrder
from examples.shop.outside import Mails, Payments, Service
from examples.shop.shows import OpenShow
from examples.web.page import PAGE
from millstream.engine import Engine, Metadata, VersionConflict
from millstream.engine.client import Client
from millstream.engine.gateway import Gateway
from millstream.engine.web import WebApp
from millstream.engine.web.frameworks import add_messages, lifespan, metadata_of, problem_handlers, served

#: A stand-in for the bank that takes the money and sends mails.
service = Service()


def opened() -> AbstractAsyncContextManager[Engine | Client]:
    """The engine, or a client of one that runs elsewhere."""
    address = os.environ.get("SHOP_SERVER")
    return _with_a_show() if address is None else Client(address)


@asynccontextmanager
async def _with_a_show() -> AsyncGenerator[Engine, None]:
    log = os.environ.get("SHOP_LOG", "ticket-shop.db")
    async with Engine(shop, log=log, effects=[Payments(service), Mails(service)]) as engine:
        with suppress(VersionConflict):  # it is open since an earlier start
            await engine.execute(OpenShow("hamlet", 100, 20_00), expected_version=0)
        yield engine


web = WebApp(shop)
api = FastAPI(title="Tickets", lifespan=lifespan(opened, web), exception_handlers=problem_handlers())

Shop = Annotated[Gateway, Depends(served)]
Asked = Annotated[Metadata, Depends(metadata_of)]


class Order(BaseModel):
    """What a visitor orders."""

    show: str
    count: int = Field(gt=0, le=20)
    mail: str


class Placed(BaseModel):
    """What became of it."""

    order: str
    state: str | None
    free: int


@api.post("/orders")
async def place(order: Order, engine: Shop, asked: Asked) -> Placed:
    """An endpoint of one's own: it gives the order its number, and answers with what the views say of it."""
    number = secrets.token_hex(8)
    who = structs.replace(asked, actor=asked.actor or order.mail)
    receipt = await engine.execute(PlaceOrder(number, order.show, order.count, order.mail), metadata=who)
    state = await engine.ask(OrderState(number), after=receipt)
    return Placed(order=number, state=state, free=await engine.ask(FreeSeats(order.show), after=receipt))


@api.get("/", include_in_schema=False)
def page() -> Response:
    """The page."""
    return Response(PAGE, media_type="text/html")


router = APIRouter(prefix="/shop", tags=["the shop's own messages"])
add_messages(router, web, CancelOrder, FreeSeats, OrderState)  # what anybody may send; the others stay inside
api.include_router(router)

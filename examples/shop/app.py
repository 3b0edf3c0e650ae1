"""The application."""

from __future__ import annotations

from examples.shop.orders import Order
from examples.shop.outside import Mails, Payments
from examples.shop.selling import Selling
from examples.shop.shows import Show
from examples.shop.views import Orders, Seats
from millstream.engine import App

app = App(models=[Show, Order, Selling], views=[Seats, Orders], effects=[Payments, Mails], name="ticket-shop")

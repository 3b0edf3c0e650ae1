"""What the shop does to the world outside: it takes money, gives it back, and sends mails."""

from __future__ import annotations

from examples.shop.orders import (
    ConfirmPayment,
    ConfirmRefund,
    GiveUpPayment,
    OrderCancelled,
    OrderPaid,
    OrderRefunded,
    PaymentAbandoned,
    PaymentRequested,
    RefundRequested,
)
from millstream.handlers import Attempt, Effects, gave_up, performs


class Service:
    """The service that takes money and sends mails, in memory: as careful as a real one, which has the same methods.

    What comes twice under one key is done once, and answered alike.
    """

    def __init__(self) -> None:
        #: By key, how much was charged; 0 if that is never to be.
        self.charged: dict[str, int] = {}
        self.refunded: set[str] = set()
        #: By key, to whom and what.
        self.mails: dict[str, tuple[str, str]] = {}

    async def charge(self, cents: int, key: str) -> None:
        """Take money."""
        if self.charged.setdefault(key, cents) == 0:
            raise ValueError("it was voided")

    async def refund(self, key: str) -> None:
        """Give a charge back."""
        self.refunded.add(key)

    async def void(self, key: str) -> None:
        """Give a charge back if there was one, and let there be none under that key any more."""
        self.charged[key] = 0

    async def send(self, to: str, text: str, key: str) -> None:
        """Send a mail."""
        self.mails[key] = (to, text)


class Payments(Effects):
    def __init__(self, service: Service | None = None) -> None:
        self.service = service or Service()

    @performs(attempts_max=5, timeout_seconds=10)
    async def charge(self, event: PaymentRequested, attempt: Attempt) -> ConfirmPayment:
        await self.service.charge(event.cents, attempt.id)
        return ConfirmPayment(event.order, attempt.id)

    @gave_up
    def charge_failed(self, event: PaymentRequested, attempt: Attempt, problem: str) -> GiveUpPayment:
        return GiveUpPayment(event.order, attempt.id)

    @performs(attempts_max=5, timeout_seconds=10)
    async def void(self, event: PaymentAbandoned) -> None:
        await self.service.void(event.charge)

    @performs(attempts_max=5, timeout_seconds=10)
    async def refund(self, event: RefundRequested) -> ConfirmRefund:
        await self.service.refund(event.charge)
        return ConfirmRefund(event.order)


class Mails(Effects):
    def __init__(self, service: Service | None = None) -> None:
        self.service = service or Service()

    @performs(attempts_max=3)
    async def paid(self, event: OrderPaid, attempt: Attempt) -> None:
        await self.service.send(event.mail, f"Your tickets for {event.show}.", attempt.id)

    @performs(attempts_max=3)
    async def cancelled(self, event: OrderCancelled, attempt: Attempt) -> None:
        await self.service.send(event.mail, f"No tickets for {event.show}: {event.reason}.", attempt.id)

    @performs(attempts_max=3)
    async def refunded(self, event: OrderRefunded, attempt: Attempt) -> None:
        await self.service.send(event.mail, f"Your money for {event.show} was given back.", attempt.id)

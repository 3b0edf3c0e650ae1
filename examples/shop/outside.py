"""What the shop does to the world outside: it takes money, gives it back, and sends mails.

`Service` is a stand-in for both services, in memory. A real one has the same methods, and a client in it.
"""

from __future__ import annotations

from typing import Protocol

from examples.shop.messages import (
    ConfirmPayment,
    ConfirmRefund,
    GiveUpPayment,
    OrderCancelled,
    OrderPaid,
    PaymentAbandoned,
    PaymentRequested,
    RefundRequested,
)
from millstream.handlers import Attempt, Effects, gave_up, performs


class PaymentService(Protocol):
    """Whoever takes money. What comes twice with one idempotency key is done once, and answered alike."""

    async def charge(self, cents: int, idempotency_key: str) -> str:
        """Take money; returns the charge's name."""
        ...

    async def refund(self, charge: str) -> None:
        """Give a charge back, once."""
        ...

    async def void(self, idempotency_key: str) -> None:
        """Give back what was charged under that key, if anything was; and charge nothing under it any more."""
        ...


class MailService(Protocol):
    """Whoever sends mails."""

    async def send(self, to: str, text: str, idempotency_key: str) -> None:
        """Send one, once."""
        ...


class Payments(Effects):
    def __init__(self, service: PaymentService | None = None) -> None:
        self.service = service or Service()

    @performs(attempts_max=5, timeout_seconds=10)
    async def charge(self, event: PaymentRequested, attempt: Attempt) -> ConfirmPayment:
        return ConfirmPayment(event.order, await self.service.charge(event.cents, attempt.id))

    @gave_up
    def charge_failed(self, event: PaymentRequested, attempt: Attempt, problem: str) -> GiveUpPayment:
        return GiveUpPayment(event.order, attempt.id, problem)

    @performs(attempts_max=5, timeout_seconds=10)
    async def void(self, event: PaymentAbandoned) -> None:
        await self.service.void(event.charged_as)

    @performs(attempts_max=5, timeout_seconds=10)
    async def refund(self, event: RefundRequested) -> ConfirmRefund:
        await self.service.refund(event.charge)
        return ConfirmRefund(event.order)


class Mails(Effects):
    def __init__(self, service: MailService | None = None) -> None:
        self.service = service or Service()

    @performs(attempts_max=3)
    async def paid(self, event: OrderPaid, attempt: Attempt) -> None:
        await self.service.send(event.mail, f"Your tickets for {event.show}", attempt.id)

    @performs(attempts_max=3)
    async def cancelled(self, event: OrderCancelled, attempt: Attempt) -> None:
        await self.service.send(event.mail, f"No tickets for {event.show}: {event.reason}", attempt.id)


class Service:
    """Both services, in memory: as careful as a real one ought to be."""

    def __init__(self) -> None:
        #: By idempotency key, how much was charged; 0 if that is never to be.
        self.charged: dict[str, int] = {}
        self.refunded: set[str] = set()
        #: By idempotency key, to whom and what.
        self.mails: dict[str, tuple[str, str]] = {}

    async def charge(self, cents: int, idempotency_key: str) -> str:
        """The charge's name is its key."""
        if self.charged.setdefault(idempotency_key, cents) == 0:
            raise ValueError("it was voided")
        return idempotency_key

    async def refund(self, charge: str) -> None:
        """Give it back."""
        self.refunded.add(charge)

    async def void(self, idempotency_key: str) -> None:
        """There is no such charge any more, and never will be."""
        self.charged[idempotency_key] = 0

    async def send(self, to: str, text: str, idempotency_key: str) -> None:
        """Keep it."""
        self.mails[idempotency_key] = (to, text)

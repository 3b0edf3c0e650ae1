"""The clients: many at once, on a few accounts, each with a connection of its own.

Each question is asked with the newest position that any client here was given, in a receipt, a refusal or an
answer. Views follow the log after a commit is acknowledged, and a replica is another process: without a token an answer
may be older than one that another client already has, and that breaks no promise. With it, the answer can't be older
than anything that was known anywhere when the question was asked. This is what makes questions linearizable, together
with the commands, on whatever view or replica they are asked: what was known is behind them, and what they show is
known from then on.

Here: what is asked of whom. Not here: what is made of the outcome (`record`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from itertools import count
from random import Random
from typing import TypeAlias

import anyio

from millstream.bench.proofs.histories.accounts import Change, Deposit, Open, Standing, StandingOf, Withdraw
from millstream.bench.proofs.histories.plan import Role, role_of
from millstream.bench.proofs.histories.record import Record
from millstream.bench.proofs.histories.spec import Again, Asked, Question, Sent
from millstream.engine import Metadata, MillstreamError, Receipt, TryAgainLater
from millstream.engine.application.messages import Answered
from millstream.engine.client import Client, ClientLimits

__all__ = ["Clients", "first_accounts"]

#: Accounts at once. Few, so that most operations meet others on the same account.
_HOT = 4
#: After so many operations an account is left alone and another one takes its place: a search is as long as a history.
_OPERATIONS_PER_ACCOUNT = 2_000
#: Operations that one client has under way at once, on its one connection.
_LANES = 2

#: This share of operations sends a command again that lay in the log before all clients, if there are any.
_AGAIN = 0.05
_QUESTIONS, _DEPOSITS, _OPENS = 0.4, 0.32, 0.03
#: Large, so that a balance tells which deposits are in it: a search need not wonder for long what was left open.
_DEPOSIT_MAX, _WITHDRAWAL_MAX = 1_000_000, 3_000_000
#: This share of commands is given so little time that it may be over before they are decided, or after; and this share
#: so much that it may be over after a crash, when they have been sent again, or could not be.
_HURRIED, _HURRY_SECONDS_MAX = 0.05, 0.01
_TIMED, _TIME_SECONDS_MAX = 0.3, 3.0
#: One in so many commands is sent without an id of its own.
_NAMELESS = 10
#: A position that was known is in the log, so a follower gets there; this long only where promises are broken.
_ANSWER_SECONDS_MAX = 10.0
_AFTER_TROUBLE_SECONDS = 0.01
#: How long operations may take to end once no new ones are begun.
_GRACE_SECONDS = 20.0
#: A server that says nothing for twice as long is left.
_LIMITS = ClientLimits(quiet_seconds_max=0.3, retry_seconds_max=0.2)


#: One address of a server, or several of which the client finds the one that writes.
_Where: TypeAlias = str | Sequence[str]


class Clients:
    """All clients.

    Args:
        record: gets everything.
        seed: of all that is random.
        writers: the writer's addresses, each an address or several that a client is given together.
        replicas: the replica's; empty if there is none.
        at_the_end: what is asked for every account when all is over.
        older: commands that lay in the log before all clients, to be sent again.
        older_operations_max: after so many operations of all clients the log may have forgotten their ids, and none is.
    """

    def __init__(
        self,
        record: Record,
        seed: int,
        writers: Sequence[_Where],
        replicas: Sequence[_Where],
        at_the_end: Sequence[_Where],
        older: Sequence[Again] = (),
        older_operations_max: int = 0,
    ) -> None:
        self._record = record
        self._seed = seed
        self._writers = writers
        self._replicas = replicas
        self._at_the_end = at_the_end
        self._older = older
        self._older_operations_max = older_operations_max
        self._generations = [0] * _HOT
        self._used = [0] * _HOT

    async def run(self, clients: int, stop: asyncio.Event) -> None:
        """Let so many clients work until they are to stop; then give what they have begun some time to end."""
        with anyio.CancelScope() as grace:
            async with asyncio.TaskGroup() as group:
                for number in range(clients):
                    group.create_task(self._live(number, stop))
                await stop.wait()
                grace.deadline = anyio.current_time() + _GRACE_SECONDS

    async def look_at_all(self) -> None:
        """Ask for every account there ever was, of each server."""
        for where in self._at_the_end:
            async with _client(where) as client, asyncio.TaskGroup() as group:
                for account in sorted({each.key for each in self._record.history}):
                    group.create_task(self._ask("at the end", client, account))

    async def _live(self, number: int, stop: asyncio.Event) -> None:
        role = role_of(number, replica=bool(self._replicas))
        writer = self._writers[number % len(self._writers)]
        replica = self._replicas[number % len(self._replicas)] if self._replicas else writer
        async with AsyncExitStack() as stack:
            to_command = to_ask = await stack.enter_async_context(_client(replica if role is Role.REPLICA else writer))
            if role is Role.SPLIT:
                to_ask = await stack.enter_async_context(_client(replica))
            group = await stack.enter_async_context(asyncio.TaskGroup())
            for lane in range(_LANES):
                group.create_task(self._work(f"{number}.{lane}", to_command, to_ask, stop))

    async def _work(self, name: str, to_command: Client, to_ask: Client, stop: asyncio.Event) -> None:
        random = Random(f"{self._seed} client {name}")
        for number in count():
            if stop.is_set():
                return
            went_well = await self._do_any(name, number, to_command, to_ask, random)
            if not went_well:
                await anyio.sleep(_AFTER_TROUBLE_SECONDS)

    async def _do_any(self, name: str, number: int, to_command: Client, to_ask: Client, random: Random) -> bool:
        if self._is_for_older(number, random):
            return await self._send_again(name, to_command, random)
        account = self._pick(random)
        if random.random() < _QUESTIONS:
            return await self._ask(name, to_ask, account)
        return await self._send(name, to_command, f"{name}.{number}", account, random)

    async def _ask(self, name: str, client: Client, account: str) -> bool:
        question = Question(StandingOf(account), self._record.token)
        return await self._do(
            name, question, lambda: client.answer(question.query, after=question.after, timeout=_ANSWER_SECONDS_MAX)
        )

    async def _send(self, name: str, client: Client, command_name: str, account: str, random: Random) -> bool:
        sent, known = Sent(command_name, _change(account, random)), Metadata(correlation=command_name)
        timeout = _timeout(random)
        command_id = None if random.randrange(_NAMELESS) == 0 else command_name
        return await self._do(
            name,
            sent,
            lambda: client.execute(sent.command, command_id=command_id, metadata=known, timeout=timeout),
        )

    async def _send_again(self, name: str, client: Client, random: Random) -> bool:
        again = random.choice(self._older)
        known, timeout = Metadata(correlation=again.name), _timeout(random)
        return await self._do(
            name,
            again,
            lambda: client.execute(again.command, command_id=again.name, metadata=known, timeout=timeout),
        )

    def _is_for_older(self, number: int, random: Random) -> bool:
        """Each begins with one of them."""
        remembered = bool(self._older) and len(self._record.history) < self._older_operations_max
        return remembered and (number == 0 or random.random() < _AGAIN)

    async def _do(self, name: str, asked: Asked, call: Callable[[], Awaitable[Receipt | Answered[Standing]]]) -> bool:
        """Call, and let the record have what came of it. False if it is no time to go on as fast as possible."""
        invoked_at = self._record.now()
        try:
            answer = await call()
        except (MillstreamError, asyncio.CancelledError) as error:
            self._record.failed(name, asked, invoked_at, error)
            if not isinstance(error, MillstreamError):
                raise
            return not isinstance(error, TryAgainLater)
        self._record.answered(name, asked, invoked_at, answer)
        return True

    def _pick(self, random: Random) -> str:
        """One of the accounts in use."""
        slot = random.randrange(_HOT)
        self._used[slot] += 1
        if self._used[slot] > _OPERATIONS_PER_ACCOUNT:
            self._used[slot] = 1
            self._generations[slot] += 1
        return _account(slot, self._generations[slot])


def first_accounts() -> list[str]:
    """The accounts that clients begin with."""
    return [_account(slot, 0) for slot in range(_HOT)]


def _account(slot: int, generation: int) -> str:
    return f"{slot}.{generation}"


def _client(where: _Where) -> Client:
    return Client(where, eager=False, limits=_LIMITS)


def _timeout(random: Random) -> float | None:
    chance = random.random()
    if chance < _HURRIED:
        return random.uniform(0, _HURRY_SECONDS_MAX)
    return random.uniform(0, _TIME_SECONDS_MAX) if chance < _HURRIED + _TIMED else None


def _change(account: str, random: Random) -> Change:
    chance = random.random()
    if chance < _OPENS:
        return Open(account)
    if chance < _OPENS + _DEPOSITS / (1 - _QUESTIONS):
        return Deposit(account, random.randint(1, _DEPOSIT_MAX))
    return Withdraw(account, random.randint(1, _WITHDRAWAL_MAX))

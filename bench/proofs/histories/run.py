"""A whole run: servers are begun and killed, clients work all the time, and then everything is judged.

Here: the order of things, and what is counted. Not here: how it looks (`show`).
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import anyio
import msgspec

from millstream.bench import loops
from millstream.bench.proofs.files import DATABASE
from millstream.bench.proofs.histories.accounts import accounts
from millstream.bench.proofs.histories.beginning import Beginning, beginning, not_upgraded
from millstream.bench.proofs.histories.by_position import check_places, read_log
from millstream.bench.proofs.histories.child import Order
from millstream.bench.proofs.histories.clients import Clients, first_accounts
from millstream.bench.proofs.histories.linear import Linearizable, Undecided, Violation, check_each
from millstream.bench.proofs.histories.places import Place, Store, placed
from millstream.bench.proofs.histories.plan import Crash, Whom, crashes
from millstream.bench.proofs.histories.process import PROGRAM, Served, ServerFailed
from millstream.bench.proofs.histories.record import Record
from millstream.bench.proofs.histories.spec import Accepted, Account, Again, Call, Denied, Refused, Repeated, Shown
from millstream.bench.proofs.older import write_in_format_1
from millstream.bench.proofs.problems import PROBLEMS_KEPT_MAX, Verdict, evidence_of
from millstream.engine import Limits, MillstreamError
from millstream.engine.commits.commit import Commit
from millstream.engine.loop.clock import elapsed
from millstream.engine.stores.address import log_at

__all__ = ["Histories", "Tally", "run"]

_ANSWER_SECONDS_MAX = 1.0
#: Below the ports that systems give to clients. A client that tries to reach a port of those while no server
#: listens may be given that very port, and is connected with itself then; and no server can listen there any more.
_PORTS = range(20_000, 32_000)
#: How many ids are remembered where the log is one of 0.1: so many that those of its commands are not forgotten. After
#: as many operations, of which no more than half are accepted commands with ids, none of them is sent again.
_RECEIPTS_MAX = 1_000_000


class Histories(msgspec.Struct, frozen=True, kw_only=True):
    """How long and how hard."""

    seconds: float
    clients: int
    crashes: int
    seed: int
    #: An existing folder in which the run makes its own.
    directory: str
    #: Whether there is a replica too, which answers questions and forwards commands.
    replica: bool = False
    #: Whether questions are asked with tokens. Without, it must come out that answers are stale.
    tokens: bool = True
    #: The log is one of millstream 0.1, which the first server upgrades. Its commands are a part of the history.
    begins_in_format_1: bool = False
    #: Two processes have the log of this store, of which one writes and the other stands by; None for one process, on
    #: SQLite. It goes without a replica, and without a log of 0.1.
    failovers: Store | None = None


class Tally(Verdict, kw_only=True):
    """What was done, and what was found; a report when the run is over."""

    clients: int
    #: SIGKILLs: those of the plan, those while a process began anew, and the last one.
    kills: int = 0
    #: Writers that were stopped for so long that another one took over, and which ended by themselves when they woke.
    replaced: int = 0
    #: Operations, all of them and by what came of them. Those left open are commands of which it is not known whether
    #: they happened, and questions without an answer.
    operations: int = 0
    accepted: int = 0
    refused: int = 0
    answers: int = 0
    denied: int = 0
    left_open: int = 0
    #: Receipts that said that the command was there already: it was sent again across a crash.
    repeated: int = 0
    #: Commands that lay in the log before, in format 1, and how often one of them was sent again and got its receipt.
    older: int = 0
    older_repeated: int = 0
    #: How often which error came.
    errors: dict[str, int] = {}
    #: Accounts, and what their histories are.
    accounts: int = 0
    linearizable: int = 0
    violations: int = 0
    undecided: int = 0
    #: What is wrong with positions, receipts and answers, held against the log.
    misplaced: int = 0
    checking_seconds: float = 0.0

    @property
    def wrong(self) -> int:
        """How many things are wrong."""
        return self.violations + self.undecided + self.misplaced + self.otherwise

    def note(self, record: Record, kills: int, replaced: int) -> None:
        """Count what has happened so far."""
        outputs = Counter(type(each.output) for each in islice(record.history, record.before, None))
        self.kills, self.replaced = kills, replaced
        self.operations, self.repeated = outputs.total(), record.repeated
        self.older, self.older_repeated = record.before, outputs[Repeated]
        self.accepted, self.refused, self.answers = outputs[Accepted], outputs[Refused], outputs[Shown]
        self.denied, self.left_open = outputs[Denied], outputs[type(None)]
        self.errors = dict(record.errors.most_common())


def run(
    histories: Histories, tell: Callable[[Tally], None] = lambda _: None, program: Sequence[str] = PROGRAM
) -> Tally:
    """Run, then judge. If anything is wrong the evidence is kept: history, log, and what the servers said.

    Args:
        histories: how long and how hard.
        tell: is called after each crash.
        program: what to run as a server.
    """
    tally = Tally(seed=histories.seed, clients=histories.clients)
    begun = beginning(histories.seed, first_accounts()) if histories.begins_in_format_1 else Beginning()
    record = Record(tokens=histories.tokens, before=begun.history)
    started = elapsed()
    with evidence_of(tally, "histories", histories.directory) as base:
        with (
            placed(histories.failovers or Store.SQLITE, base) as place,
            TemporaryDirectory(prefix="millstream-") as sockets,  # the path of a Unix socket must be short
        ):
            if begun.commits:
                write_in_format_1(base / DATABASE, accounts, begun.commits)
            play = _Play(histories, base, Path(sockets), record, program, place, begun.again)
            try:
                asyncio.run(play.run(lambda: _hand_out(tally, record, play, tell)))
            except* ServerFailed as failed:
                _found(tally, [str(error) for error in failed.exceptions])
            finally:
                _hand_out(tally, record, play, tell)
            commits = place.commits()
        tally.seconds = elapsed() - started
        _judge(tally, record, commits)
        tally.checking_seconds = elapsed() - started - tally.seconds
        if tally.wrong:
            _keep(tally, record.history, base)
    return tally


class _Play:
    """The servers and the clients of one run."""

    def __init__(
        self,
        histories: Histories,
        base: Path,
        sockets: Path,
        record: Record,
        program: Sequence[str],
        place: Place,
        older: Sequence[Again],
    ) -> None:
        self._histories = histories
        self._record = record
        self._log = place.log
        ports, failovers = _free_ports(), histories.failovers is not None
        first, second = (
            [f"unix://{sockets / name}", f"tcp://127.0.0.1:{next(ports)}"] for name in ("writer", "replica")
        )
        if failovers:  # where the writer is others say by the first one, and clients follow a word of tcp:// anywhere
            first, second = first[::-1], second[::-1]
        order = Order(log=place.log, listen=first, receipts_max=_receipts_max(histories), standby=failovers)
        self._writer = Served("the writer", order, base / "writer errors.txt", program)
        self._servers = [self._writer]
        if failovers:
            order = msgspec.structs.replace(order, listen=second)
            self._servers.append(Served("the standby", order, base / "standby errors.txt", program))
        elif histories.replica:
            order = Order(log=place.log, listen=second, writer=first[0])
            self._servers.append(Served("the replica", order, base / "replica errors.txt", program))
        either = [[one, other] for one, other in zip(first + second, second + first, strict=True)]
        self._clients = Clients(
            record,
            histories.seed,
            either if failovers else first,
            [first[0], second[0]] if failovers else second if histories.replica else [],
            [server.order.listen[0] for server in self._servers],
            older,
            _RECEIPTS_MAX,
        )

    @property
    def kills(self) -> int:
        """How many processes were killed so far."""
        return sum(server.kills for server in self._servers)

    @property
    def replaced(self) -> int:
        """How many processes ended by themselves so far, as another one writes."""
        return sum(server.replaced for server in self._servers)

    async def run(self, tell: Callable[[], None]) -> None:
        """From the first process to the death of the last one."""
        stop, plan = asyncio.Event(), self._histories
        try:
            for server in self._servers:
                server.begin("asyncio")
                await server.ready()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._clients.run(plan.clients, stop))
                until = elapsed() + plan.seconds
                both = plan.replica or plan.failovers is not None
                for crash in crashes(plan.seed, plan.crashes, plan.seconds, replica=both):
                    await self._crash(crash)
                    tell()
                await anyio.sleep(max(0.0, until - elapsed()))
                stop.set()
            await self._clients.look_at_all()
        finally:
            for server in self._servers:
                server.kill()
            for server in self._servers:
                await server.gone()

    async def _crash(self, crash: Crash) -> None:
        writer = self._writer if self._histories.failovers is None else await self._leader()
        victims = [
            server
            for server in self._servers
            if crash.whom is Whom.BOTH or (crash.whom is Whom.WRITER) == (server is writer)
        ]
        loop = crash.loop if crash.loop in loops.available() else "asyncio"
        if crash.stopped_ms:
            await anyio.sleep(crash.after_ms / 2e3)
            await _stopped(victims, crash.stopped_ms)
        await anyio.sleep(crash.after_ms / (2e3 if crash.stopped_ms else 1e3))
        if crash.at_answer:
            await self._at_an_answer(victims)
        await _fell(victims)
        await anyio.sleep(crash.down_ms / 1e3)
        _rise(victims, loop)
        if crash.again_after_ms is not None:
            await anyio.sleep(crash.again_after_ms / 1e3)
            await _fell(victims)
            _rise(victims, loop)
        for server in victims:
            await server.ready()

    async def _leader(self) -> Served:
        """The one that writes, as the log says; any, where it does not."""
        address, log = None, log_at(self._log)
        try:
            await log.attach()
            address = await log.leader()
        except (MillstreamError, OSError):
            pass
        finally:
            await log.close()
        return next((each for each in self._servers if each.order.listen[0] == address), self._writer)

    async def _at_an_answer(self, victims: Sequence[Served]) -> None:
        """Kill at the moment at which a client gets an answer; go on without if none does."""
        came = asyncio.Event()

        def strike() -> None:
            for server in victims:
                server.kill()
            came.set()

        self._record.at_next_answer(strike)
        with anyio.move_on_after(_ANSWER_SECONDS_MAX):
            await came.wait()


def _receipts_max(histories: Histories) -> int:
    return _RECEIPTS_MAX if histories.begins_in_format_1 else Limits().receipts_max


async def _stopped(servers: Sequence[Served], milliseconds: float) -> None:
    """Stop them for a while, wherever they are."""
    for server in servers:
        server.signal(signal.SIGSTOP)
    await anyio.sleep(milliseconds / 1e3)
    for server in servers:
        server.signal(signal.SIGCONT)


async def _fell(servers: Sequence[Served]) -> None:
    """Kill them, if that was not done, and see them gone."""
    for server in servers:
        server.kill()
    for server in servers:
        await server.gone()


def _rise(servers: Sequence[Served], loop: str) -> None:
    for server in servers:
        server.begin(loop)


def _free_ports() -> Iterator[int]:
    """Ports of this machine on which no server listens now."""
    while True:
        port = Random().choice(_PORTS)
        with socket.socket() as attempt:
            attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                attempt.bind(("127.0.0.1", port))
            except OSError:
                continue
        yield port


def _hand_out(tally: Tally, record: Record, play: _Play, tell: Callable[[Tally], None]) -> None:
    tally.note(record, play.kills, play.replaced)
    tell(tally)


def _judge(tally: Tally, record: Record, commits: Sequence[Commit]) -> None:
    """Everything that can be said of a history and its log."""
    written, problems = read_log(commits)
    problems += check_places(record.history, written)
    verdicts = check_each(Account(), record.history)
    tally.accounts, tally.misplaced = len(verdicts), len(problems)
    tally.linearizable = sum(isinstance(each, Linearizable) for each in verdicts.values())
    tally.violations = sum(isinstance(each, Violation) for each in verdicts.values())
    tally.undecided = sum(isinstance(each, Undecided) for each in verdicts.values())
    wrong = [f"account {key}: {each}" for key, each in verdicts.items() if not isinstance(each, Linearizable)]
    tally.problems += [*wrong, *map(str, problems)][:PROBLEMS_KEPT_MAX]
    _found(tally, record.unexpected)
    if not (tally.accepted and tally.refused and tally.answers):
        _found(tally, [f"nothing to be judged: {tally.accepted=}, {tally.refused=}, {tally.answers=}"])
    if record.before:
        _found(tally, not_upgraded(commits))
        _found(tally, [] if tally.older_repeated else ["no command of the log's beginning was answered as repeated"])


def _found(tally: Tally, problems: Sequence[str]) -> None:
    tally.otherwise += len(problems)
    tally.problems += problems[:PROBLEMS_KEPT_MAX]


def _keep(tally: Tally, history: Sequence[Call], base: Path) -> None:
    lines = [msgspec.json.encode(each) for each in sorted(history, key=lambda each: each.invoked_at)]
    (base / "history.jsonl").write_bytes(b"\n".join([*lines, b""]))
    (base / "problems.txt").write_text("\n\n".join([*tally.problems, ""]), "utf-8")

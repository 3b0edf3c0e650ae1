"""What is to be done, as data: how many accounts, commands, callers, questions. Not here: who does it, and how.

Every workload has two sizes: the full one, and a smoke size that shows only that it runs. What `millstream.bench.quick`
asks for has a third.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

from millstream.engine import Limits

__all__ = ["WORKLOADS", "Sizes", "Workload"]


class Workload(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One piece of work on the bank of `millstream.bench.bank`; the same for every contender that is given it."""

    #: Accounts, opened before anything is measured. With one, all commands have the same key.
    accounts: int = 1_000
    #: How they are drawn: 0 is uniformly, s is after Zipf: the n-th account n**s times as rarely as the first.
    zipf: float = 0.0
    #: Commands that are measured. Where the questions are what is measured, those that the callers repeat meanwhile.
    commands: int
    #: Commands executed before that, in the same way.
    warmup: int
    #: What the commands are: deposits, transfers between two accounts, or deposits with a text.
    kind: Literal["deposit", "transfer", "memo"] = "deposit"
    #: The length of that text.
    memo_bytes: int = 0
    #: Deposits made before all that, by callers that are not measured: how large the log is when it begins.
    history: int = 0
    #: How many of the measured operations are questions instead, as a share of 1.
    reads: float = 0.0
    #: Commands on a schedule instead of by callers who wait: this share of the rate that the callers reached.
    arrivals: float = 0.0
    #: Each caller deposits to accounts of its own, so that it knows their versions.
    own_accounts: bool = False
    #: Tasks that each send a deposit and wait for its receipt before they send the next.
    callers: int = 1
    #: Requests that each caller sends at once before it waits for all of their answers, where callers are connections.
    in_flight: int = 1
    #: Questions for one account's balance.
    asks: int = 0
    #: The schedule of the questions: one each so many milliseconds.
    ask_interval_ms: float = 2.0
    #: Commands in one row, for limits that write rows: where the engine closes a batch.
    batch: int = Limits().batch_commands_max
    #: Whether everything that is there after the warm-up is set aside from the garbage collector.
    gc_frozen: bool = False
    #: Where all random choices come from.
    seed: int = 2013


class Sizes(NamedTuple):
    """A workload large enough to measure, one just large enough to run, and one for those who have minutes."""

    full: Workload
    smoke: Workload
    quick: Workload | None = None


WORKLOADS = {
    "many-callers": Sizes(
        Workload(callers=1_000, commands=300_000, warmup=50_000),
        Workload(callers=1_000, commands=2_000, warmup=1_000),
        Workload(callers=1_000, commands=100_000, warmup=20_000),
    ),
    "one-caller": Sizes(
        Workload(callers=1, commands=4_000, warmup=500),
        Workload(callers=1, commands=50, warmup=10, accounts=10),
        Workload(callers=1, commands=2_000, warmup=300),
    ),
    "asks": Sizes(
        Workload(commands=0, warmup=10_000, asks=500_000),
        Workload(commands=0, warmup=100, asks=1_000, accounts=10),
        Workload(commands=0, warmup=10_000, asks=200_000),
    ),
    "history": Sizes(
        Workload(commands=1_000_000, warmup=0),
        Workload(commands=2_000, warmup=0, accounts=10),
        Workload(commands=200_000, warmup=0),
    ),
    "past": Sizes(
        Workload(commands=1_000_000, warmup=0, asks=3_000),
        Workload(commands=2_000, warmup=0, asks=50, accounts=10),
    ),
    "sql": Sizes(
        Workload(commands=500_000, warmup=0),
        Workload(commands=2_000, warmup=0, accounts=10),
    ),
    "sql-postgres": Sizes(
        Workload(commands=50_000, warmup=0),
        Workload(commands=2_000, warmup=0, accounts=10),
    ),
    "own-accounts": Sizes(
        Workload(callers=1_000, commands=300_000, warmup=50_000, own_accounts=True),
        Workload(callers=1_000, commands=2_000, warmup=1_000, own_accounts=True),
    ),
    "many-accounts": Sizes(
        Workload(callers=1_000, commands=100_000, warmup=20_000, accounts=10_000),
        Workload(callers=100, commands=500, warmup=100, accounts=100),
    ),
    "history-of-10-million": Sizes(
        Workload(commands=10_000_000, warmup=0),
        Workload(commands=3_000, warmup=0, accounts=10),
    ),
    "million-accounts": Sizes(
        Workload(commands=0, warmup=0, accounts=1_000_000, asks=3_000),
        Workload(commands=0, warmup=0, accounts=1_000, asks=20),
    ),
    "million-structs": Sizes(
        Workload(callers=100, commands=50_000, warmup=0, accounts=1_000_000),
        Workload(callers=10, commands=100, warmup=0, accounts=1_000),
    ),
    "asks-beside-many-callers": Sizes(
        Workload(callers=1_000, commands=50_000, warmup=50_000, asks=4_000),
        Workload(callers=1_000, commands=2_000, warmup=1_000, asks=50),
        Workload(callers=1_000, commands=50_000, warmup=20_000, asks=1_500),
    ),
    "asks-beside-many-callers-frozen": Sizes(
        Workload(callers=1_000, commands=50_000, warmup=50_000, asks=4_000, gc_frozen=True),
        Workload(callers=1_000, commands=2_000, warmup=1_000, asks=50, gc_frozen=True),
    ),
    "asks-beside-one-caller": Sizes(
        Workload(callers=1, commands=1_000, warmup=500, asks=4_000),
        Workload(callers=1, commands=20, warmup=10, asks=50, accounts=10),
    ),
    "one-call": Sizes(
        Workload(commands=500_000, warmup=50_000),
        Workload(commands=2_000, warmup=100, accounts=10),
        Workload(commands=200_000, warmup=20_000),
    ),
    "peers": Sizes(
        Workload(callers=1_000, commands=20_000, warmup=2_000),
        Workload(callers=20, commands=60, warmup=20, accounts=10),
        Workload(callers=1_000, commands=2_000, warmup=200, accounts=200),
    ),
    "peers-one-caller": Sizes(
        Workload(callers=1, commands=3_000, warmup=300),
        Workload(callers=1, commands=20, warmup=10, accounts=10),
        Workload(callers=1, commands=1_000, warmup=100, accounts=200),
    ),
    "peers-slow": Sizes(
        Workload(callers=1_000, commands=2_000, warmup=200),
        Workload(callers=20, commands=20, warmup=5, accounts=10),
    ),
    "peers-slow-one-caller": Sizes(
        Workload(callers=1, commands=1_000, warmup=100),
        Workload(callers=1, commands=20, warmup=5, accounts=10),
    ),
    "connections-1": Sizes(
        Workload(callers=1, commands=20_000, warmup=2_000),
        Workload(callers=1, commands=50, warmup=10, accounts=10),
    ),
    "connections-1-asking": Sizes(
        Workload(callers=1, commands=0, warmup=10_000, asks=60_000),
        Workload(callers=1, commands=0, warmup=100, asks=50, accounts=10),
    ),
    "connections-50": Sizes(
        Workload(callers=50, commands=200_000, warmup=20_000),
        Workload(callers=50, commands=500, warmup=100, accounts=10),
    ),
    "connections-50-asking": Sizes(
        Workload(callers=50, commands=0, warmup=10_000, asks=300_000),
        Workload(callers=50, commands=0, warmup=100, asks=500, accounts=10),
    ),
    "connections-1000": Sizes(
        Workload(callers=1_000, commands=200_000, warmup=20_000),
        Workload(callers=100, commands=1_000, warmup=500, accounts=10),
    ),
    "connections-1000-asking": Sizes(
        Workload(callers=1_000, commands=0, warmup=10_000, asks=300_000),
        Workload(callers=100, commands=0, warmup=100, asks=1_000, accounts=10),
    ),
    "connections-50x16": Sizes(
        Workload(callers=50, in_flight=16, commands=500_000, warmup=50_000),
        Workload(callers=50, in_flight=16, commands=2_000, warmup=1_000, accounts=10),
    ),
    "connections-50x16-asking": Sizes(
        Workload(callers=50, in_flight=16, commands=0, warmup=10_000, asks=1_000_000),
        Workload(callers=50, in_flight=16, commands=0, warmup=100, asks=2_000, accounts=10),
    ),
    "http-1": Sizes(
        Workload(callers=1, commands=5_000, warmup=500),
        Workload(callers=1, commands=30, warmup=10, accounts=10),
    ),
    "http-50": Sizes(
        Workload(callers=50, commands=30_000, warmup=3_000),
        Workload(callers=50, commands=200, warmup=100, accounts=10),
    ),
    "http-1000": Sizes(
        Workload(callers=1_000, commands=40_000, warmup=4_000),
        Workload(callers=50, commands=200, warmup=100, accounts=20),
    ),
    "client-1000": Sizes(
        Workload(callers=1_000, commands=200_000, warmup=20_000),
        Workload(callers=100, commands=1_000, warmup=500, accounts=10),
    ),
    "client-1000-asking": Sizes(
        Workload(callers=1_000, commands=0, warmup=10_000, asks=300_000),
        Workload(callers=100, commands=0, warmup=100, asks=1_000, accounts=10),
    ),
    "client-one-call": Sizes(
        Workload(commands=400_000, warmup=40_000),
        Workload(commands=2_000, warmup=100, accounts=10),
    ),
    "replicas-asked": Sizes(
        Workload(callers=50, commands=0, warmup=10_000, asks=5_000_000),
        Workload(callers=5, commands=0, warmup=100, asks=1_000, accounts=10),
    ),
    "appends": Sizes(Workload(commands=3_000, warmup=0), Workload(commands=20, warmup=0)),
    "four-logs": Sizes(Workload(commands=2_000, warmup=0), Workload(commands=20, warmup=0)),
    "hearing": Sizes(Workload(commands=100, warmup=0), Workload(commands=2, warmup=0)),
    "failovers-large": Sizes(
        Workload(commands=4, warmup=0, accounts=1_000_000), Workload(commands=1, warmup=0, accounts=100)
    ),
    "failovers": Sizes(Workload(commands=10, warmup=0, accounts=1), Workload(commands=1, warmup=0, accounts=1)),
    "delay": Sizes(
        Workload(commands=2_000, warmup=100),
        Workload(commands=20, warmup=10, accounts=10),
    ),
    "transfers": Sizes(
        Workload(callers=1_000, commands=200_000, warmup=50_000, kind="transfer"),
        Workload(callers=100, commands=500, warmup=100, kind="transfer", accounts=10),
    ),
    "transfers-zipf": Sizes(
        Workload(callers=1_000, commands=200_000, warmup=50_000, kind="transfer", zipf=1.0),
        Workload(callers=100, commands=500, warmup=100, kind="transfer", zipf=1.0, accounts=10),
    ),
    "transfers-many-keys": Sizes(
        Workload(callers=1_000, commands=200_000, warmup=50_000, kind="transfer", accounts=200_000),
        Workload(callers=100, commands=500, warmup=100, kind="transfer", accounts=400),
    ),
    "hot-key": Sizes(
        Workload(callers=1_000, commands=200_000, warmup=50_000, accounts=1),
        Workload(callers=100, commands=500, warmup=100, accounts=1),
    ),
    **{
        f"memo-{size}": Sizes(
            Workload(callers=1_000, commands=100_000, warmup=20_000, kind="memo", memo_bytes=size),
            Workload(callers=100, commands=200, warmup=100, kind="memo", memo_bytes=size, accounts=10),
        )
        for size in (0, 500, 2_000, 10_000)
    },
    "flood": Sizes(
        Workload(callers=20_000, commands=400_000, warmup=100_000),
        Workload(callers=500, commands=1_000, warmup=500, accounts=10),
    ),
    **{
        f"mixed-{share}": Sizes(
            Workload(callers=1_000, commands=count, warmup=50_000, reads=share / 100),
            Workload(callers=50, commands=500, warmup=100, reads=share / 100, accounts=10),
        )
        for share, count in ((95, 2_000_000), (50, 400_000))
    },
    "timers": Sizes(
        Workload(callers=100, commands=60_000, warmup=0),
        Workload(callers=10, commands=300, warmup=0),
    ),
    "timers-waiting": Sizes(
        Workload(callers=1, commands=1_000_000, warmup=50_000),
        Workload(callers=1, commands=1_000, warmup=100),
    ),
    "effects": Sizes(
        Workload(callers=1_000, commands=100_000, warmup=10_000),
        Workload(callers=50, commands=500, warmup=50),
    ),
    "table": Sizes(
        Workload(commands=100_000, warmup=0, accounts=1_000_000, asks=20_000),
        Workload(commands=200, warmup=0, accounts=2_000, asks=100),
    ),
    "small": Sizes(
        Workload(callers=1_000, commands=200_000, warmup=50_000),
        Workload(callers=100, commands=500, warmup=100, accounts=10),
    ),
    **{
        f"growth-{events}-events-{keys}-keys": Sizes(
            Workload(callers=1_000, commands=200_000, warmup=50_000, history=1_000 * n, accounts=1_000 * k),
            Workload(callers=100, commands=200, warmup=100, history=n, accounts=k),
        )
        for events, n, keys, k in (
            ("10k", 10, "1k", 1),
            ("100k", 100, "10k", 10),
            ("1M", 1_000, "1k", 1),
            ("1M", 1_000, "100k", 100),
            ("10M", 10_000, "1M", 1_000),
        )
    },
    **{
        f"arrivals-{share}": Sizes(
            Workload(callers=1_000, commands=300_000, warmup=100_000, arrivals=share / 100),
            Workload(callers=100, commands=300, warmup=1_000, arrivals=share / 100, accounts=10),
        )
        for share in (25, 50, 75, 90)
    },
    "million-accounts-busy": Sizes(
        Workload(callers=1_000, commands=300_000, warmup=0, accounts=1_000_000),
        Workload(callers=100, commands=300, warmup=0, accounts=1_000),
    ),
    "beside-work": Sizes(
        Workload(callers=1, commands=1_000, warmup=100),
        Workload(callers=1, commands=20, warmup=5, accounts=10),
    ),
    "long-run": Sizes(
        Workload(callers=1_000, commands=5_000_000, warmup=100_000, reads=0.1),
        Workload(callers=100, commands=1_000, warmup=200, reads=0.1, accounts=10),
    ),
}

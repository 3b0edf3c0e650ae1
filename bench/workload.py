"""What is to be done, as data: how many accounts, commands, callers, questions. Not here: who does it, and how.

Every workload has two sizes: the full one, and a smoke size that shows only that it runs.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from penstock.engine import Limits

__all__ = ["WORKLOADS", "Sizes", "Workload"]


class Workload(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One piece of work on the bank of `penstock.bench.bank`; the same for every contender that is given it."""

    #: Accounts, opened before anything is measured. Keys are drawn from them uniformly.
    accounts: int = 1_000
    #: Deposits that are measured. Where the questions are what is measured, those that the callers repeat meanwhile.
    commands: int
    #: Deposits made before that, in the same way.
    warmup: int
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
    """A workload large enough to measure, and one just large enough to run."""

    full: Workload
    smoke: Workload


WORKLOADS = {
    "many-callers": Sizes(
        Workload(callers=1_000, commands=300_000, warmup=50_000),
        Workload(callers=1_000, commands=2_000, warmup=1_000),
    ),
    "one-caller": Sizes(
        Workload(callers=1, commands=4_000, warmup=500),
        Workload(callers=1, commands=50, warmup=10, accounts=10),
    ),
    "asks": Sizes(
        Workload(commands=0, warmup=10_000, asks=500_000),
        Workload(commands=0, warmup=100, asks=1_000, accounts=10),
    ),
    "history": Sizes(
        Workload(commands=1_000_000, warmup=0),
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
    "replicas-asked": Sizes(
        Workload(callers=50, commands=0, warmup=10_000, asks=5_000_000),
        Workload(callers=5, commands=0, warmup=100, asks=1_000, accounts=10),
    ),
    "delay": Sizes(
        Workload(commands=2_000, warmup=100),
        Workload(commands=20, warmup=10, accounts=10),
    ),
}

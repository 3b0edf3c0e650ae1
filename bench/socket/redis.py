"""Redis as a peer: the server with every write synced before it is answered, its own benchmark, and our load on it.

Everything that is not named here is as Redis has it by default; what ``appendfsync always`` means:
https://redis.io/docs/latest/operate/oss_and_stack/management/persistence/.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from millstream.bench.job import WorkerFailed
from millstream.bench.socket.children import Child, running_on_a_free_port
from millstream.bench.socket.load import Burst, Exchange, WrongReply

__all__ = [
    "GET_REPLY",
    "REQUESTS_MIN",
    "SET_REPLY",
    "Benchmark",
    "benchmark",
    "gets",
    "parse",
    "require_all",
    "server",
    "sets",
    "version",
]

_DURABLE = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")
_SECONDS_MAX = 600.0
#: Its benchmark counts in milliseconds, and divides by them: fewer can be done in none.
REQUESTS_MIN = 5_000
#: As long as the benchmark's own values are by default.
_VALUE_BYTES = 3
#: Patterns of replies, with their line ends written out.
SET_REPLY = rb"\+OK\r\n"
GET_REPLY = rb"\$3\r\n\d{3}\r\n"


class Benchmark(NamedTuple):
    """What ``redis-benchmark`` found."""

    requests_per_second: float
    #: By name, in milliseconds.
    latencies: dict[str, float]


def version() -> str | None:
    """Of the Redis server that is installed; None when there is none."""
    if shutil.which("redis-server") is None:
        return None
    said = subprocess.run(["redis-server", "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"v=(\S+)", said)
    return found[1] if found else "unknown"


@contextmanager
def server(directory: str) -> Iterator[tuple[Child, int]]:
    """A server on the loopback interface, its files in ``directory``, and its port."""

    def command(port: int) -> list[str]:
        return ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", directory, *_DURABLE]

    with running_on_a_free_port("redis-server", command, "Ready to accept connections") as found:
        yield found


def benchmark(port: int, test: str, *, connections: int, in_flight: int, requests: int, keys: int) -> Benchmark:
    """Run ``redis-benchmark`` for one of its tests.

    Raises:
        WorkerFailed: it failed, or was not done within ten minutes.
    """
    options = {"-p": port, "-t": test, "-c": connections, "-P": in_flight, "-n": requests, "-r": keys, "--precision": 3}
    command = ["redis-benchmark", *(str(each) for option in options.items() for each in option)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS_MAX, check=False)
    except subprocess.TimeoutExpired as error:
        raise WorkerFailed("redis-benchmark", f"not done after {_SECONDS_MAX:g} seconds") from error
    if done.returncode:
        raise WorkerFailed("redis-benchmark", f"exit {done.returncode}\n{done.stderr}")
    return parse(done.stdout)


def parse(said: str) -> Benchmark:
    """Read what ``redis-benchmark`` prints: its table of percentiles is the only place that has the 99.9th.

    Raises:
        WorkerFailed: it is not what Redis 7 prints.
    """
    rate = re.search(r"throughput summary: ([\d.]+) requests per second", said)
    summary = re.search(r"avg +min +p50 +p95 +p99 +max\s+([\d. ]+)", said)
    table = [
        (float(share), float(latency)) for share, latency in re.findall(r"([\d.]+)% <= ([\d.]+) milliseconds \(", said)
    ]
    if rate is None or summary is None or not table:
        raise WorkerFailed("redis-benchmark", f"it printed no result but {said[-1_000:]}")
    _, _, p50, _, p99, _ = map(float, summary[1].split())
    p999 = next(latency for share, latency in table if share >= 99.9)
    return Benchmark(float(rate[1]), {"p50 ms": p50, "p99 ms": p99, "p99.9 ms": p999})


def sets(values: Iterable[tuple[str, int]], in_flight: int) -> list[Burst]:
    """``SET`` of accounts to amounts, keys and values as long as those of ``redis-benchmark``."""
    requests = [_request(b"SET", _key(account), b"%0*d" % (_VALUE_BYTES, amount)) for account, amount in values]
    return _bursts(requests, SET_REPLY, in_flight)


def gets(accounts: Iterable[str], in_flight: int) -> list[Burst]:
    """``GET`` of accounts that were set."""
    return _bursts([_request(b"GET", _key(account)) for account in accounts], GET_REPLY, in_flight)


def require_all(exchange: Exchange, reply: bytes, requests: int) -> None:
    """See that there are so many replies, and that each matches a pattern.

    Raises:
        WrongReply: it does not, or there are more or fewer.
    """
    pattern, found = re.compile(reply), 0
    for heard in exchange.heard:
        at = 0
        while match := pattern.match(heard, at):
            found, at = found + 1, match.end()
        if at != len(heard):
            raise WrongReply(f"Redis replied {heard[at : at + 100]!r}")
    if found != requests:
        raise WrongReply(f"Redis sent {found:,} replies to {requests:,} requests")


def _key(account: str) -> bytes:
    return b"key:%012d" % int(account.rpartition("-")[2])


def _request(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def _bursts(requests: Sequence[bytes], reply: bytes, in_flight: int) -> list[Burst]:
    ends = reply.count(rb"\n")
    groups = [requests[start : start + in_flight] for start in range(0, len(requests), in_flight)]
    return [Burst(b"".join(group), ends * len(group)) for group in groups]

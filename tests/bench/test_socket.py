"""The figures over sockets: that the load is put as it says, that whatever is wrong is found, and that nobody is left.

That every contender runs is tested with all the other figures, in test_bench.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from millstream.bench.bank import AllBalances, BalanceOf, Deposit
from millstream.bench.job import WorkerFailed
from millstream.bench.socket import calls, redis
from millstream.bench.socket.children import cpu_seconds, found, running, running_on_a_free_port, spent
from millstream.bench.socket.load import Burst, Exchange, Load, NoReply, Target, WrongReply
from millstream.engine import Receipt

BURSTS = [Burst(b"a\nbb\n", 2), Burst(b"ccc\ndddd\n", 2), Burst(b"eeeee\n", 1)]


def exchange(said: list[list[int]], heard: list[bytes]) -> Exchange:
    return Exchange(1.0, 0.5, None, [], said, heard)


# The load.


@contextmanager
def listening(talk: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server for one connection, in a thread; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                talk(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join()


def test_every_burst_is_sent_once_and_its_replies_come_where_it_was_sent() -> None:
    bursts = [Burst(b"".join(b"%d of %d\n" % (line, number) for line in range(3)), 3) for number in range(40)]
    with (
        running("echo", [sys.executable, "-m", "millstream.bench.socket.echo"], "port ") as server,
        Load([Target(int(server.line.removeprefix("port ")), server.pid)], 4) as load,
    ):
        found, again = load.exchange(bursts), load.exchange(bursts[:2])
    assert sorted(number for said in found.said for number in said) == list(range(40))
    assert [b"".join(bursts[number].data for number in said) for said in found.said] == found.heard
    assert all(found.said)
    assert len(found.latencies) == 120
    assert 0 < min(found.latencies) <= max(found.latencies) < found.seconds
    assert sorted(map(len, again.said)) == [0, 0, 1, 1]


def test_several_servers_share_one_load() -> None:
    taken: dict[str, list[bytes]] = {"first": [], "second": []}

    def answering(name: str) -> Callable[[socket.socket], None]:
        def talk(connection: socket.socket) -> None:
            while data := connection.recv(100):
                taken[name].append(data)
                connection.sendall(data)

        return talk

    with (
        listening(answering("first")) as first,
        listening(answering("second")) as second,
        Load([Target(first, os.getpid()), Target(second, os.getpid())], 1) as load,
    ):
        found = load.exchange(BURSTS)
    assert [b"".join(taken[name]) for name in ("first", "second")] == found.heard
    assert sorted(taken["first"] + taken["second"]) == sorted(burst.data for burst in BURSTS)
    assert all(found.heard)


def test_the_next_burst_waits_for_the_whole_reply_to_the_one_before() -> None:
    heard: list[bytes] = []

    def talk(connection: socket.socket) -> None:
        for parts in ((b"1", b"\n2\n"), (b"3\n", b"4\n"), (b"5\n",)):
            heard.append(connection.recv(100))
            for part in parts:
                connection.sendall(part)

    with listening(talk) as port, Load([Target(port, os.getpid())], 1) as load:
        found = load.exchange(BURSTS)
    assert heard == [b"a\nbb\n", b"ccc\ndddd\n", b"eeeee\n"]
    assert (found.said, found.heard) == ([[0, 1, 2]], [b"1\n2\n3\n4\n5\n"])
    assert len(found.latencies) == 5


def test_replies_over_http_are_counted_by_what_ends_their_bodies() -> None:
    taken: list[bytes] = []

    def talk(connection: socket.socket) -> None:
        for _ in range(2):
            taken.append(connection.recv(100))
            for part in (b"200 OK\r\n\r\n", b'{"a":', b"{}}"):
                connection.sendall(part)

    bursts = [Burst(b"one", 2), Burst(b"two", 2)]
    with listening(talk) as port, Load([Target(port, os.getpid())], 1, b"}") as load:
        found = load.exchange(bursts)
    assert taken == [b"one", b"two"]
    assert found.heard == [b'200 OK\r\n\r\n{"a":{}}' * 2]


def test_more_to_read_than_expected_fails_the_run_instead_of_ending_it_early() -> None:
    released = threading.Event()

    def twice(connection: socket.socket) -> None:
        connection.sendall(connection.recv(100))
        connection.sendall(b"more\n")
        released.wait(60)

    def never(connection: socket.socket) -> None:
        connection.recv(100)
        released.wait(60)

    with (
        listening(twice) as first,
        listening(never) as second,
        Load([Target(first, os.getpid()), Target(second, os.getpid())], 1) as load,
    ):
        try:
            with pytest.raises(WrongReply, match="more to read"):
                load.exchange([Burst(b"a\n", 1), Burst(b"b\n", 1)])
        finally:
            released.set()


@pytest.mark.parametrize(("taken_bytes", "problem"), [(100, "closed a connection"), (2, "Connection reset by peer")])
def test_a_server_that_hangs_up_fails_the_run(taken_bytes: int, problem: str) -> None:
    with (
        listening(lambda connection: connection.sendall(connection.recv(taken_bytes)[:2])) as port,
        Load([Target(port, os.getpid())], 1) as load,
        pytest.raises(NoReply, match=problem),
    ):
        load.exchange(BURSTS)


def test_the_time_of_a_process_is_told_where_the_system_tells_it() -> None:
    assert cpu_seconds(1 << 30) is None
    assert (spent(1.5, 4.0), spent(None, 4.0), spent(1.5, None)) == (2.5, None, None)
    if sys.platform == "linux":
        assert cpu_seconds(os.getpid()) == pytest.approx(sum(os.times()[:2]), abs=0.1)


# What millstream is told, and what it replies.

EXECUTES = calls.executes([Deposit("a", 1), Deposit("b", 2), Deposit("c", 3)], 2)
ASKS = calls.asks([BalanceOf("a"), BalanceOf("b")], 1)


def receipt(number: int, position: int) -> bytes:
    return b'{"id":%d,"result":{"commit":1,"position":%d,"events":1,"version":1},"jsonrpc":"2.0"}\n' % (
        number,
        position,
    )


def answer(number: int, balance: int) -> bytes:
    return b'{"id":%d,"result":{"answer":%d,"position":9},"jsonrpc":"2.0"}\n' % (number, balance)


def test_commands_and_questions_are_lines_of_the_protocol() -> None:
    assert list(EXECUTES) == [
        Burst(
            b'{"jsonrpc":"2.0","id":0,"method":"execute",'
            b'"params":{"command":{"type":"Deposit","account":"a","amount":1}}}\n'
            b'{"jsonrpc":"2.0","id":1,"method":"execute",'
            b'"params":{"command":{"type":"Deposit","account":"b","amount":2}}}\n',
            2,
        ),
        Burst(
            b'{"jsonrpc":"2.0","id":2,"method":"execute",'
            b'"params":{"command":{"type":"Deposit","account":"c","amount":3}}}\n',
            1,
        ),
    ]
    assert calls.asks([AllBalances()], 1, after=7) == [
        Burst(b'{"jsonrpc":"2.0","id":0,"method":"ask","params":{"query":{"type":"AllBalances"},"after":7}}\n', 1)
    ]
    assert ASKS[1].data == (
        b'{"jsonrpc":"2.0","id":1,"method":"ask","params":{"query":{"type":"BalanceOf","account":"b"}}}\n'
    )


def test_receipts_are_told_in_the_order_of_their_commands_wherever_they_came() -> None:
    found = calls.receipts(EXECUTES, exchange([[1], [0]], [receipt(2, 4), receipt(1, 6) + receipt(0, 5)]))
    assert found == [Receipt(1, 5, 1, version=1), Receipt(1, 6, 1, version=1), Receipt(1, 4, 1, version=1)]


ERROR = b'{"id":2,"error":{"code":-32000,"message":"no"},"jsonrpc":"2.0"}\n'


@pytest.mark.parametrize(
    ("heard", "problem"),
    [
        ([receipt(0, 4) + receipt(1, 5), ERROR], '"message":"no"'),
        ([receipt(0, 4) + receipt(1, 5), b"no JSON\n"], "no JSON: "),
        ([receipt(0, 4) + receipt(1, 5), b""], "not those to its requests"),
        ([receipt(0, 4) + receipt(1, 5), receipt(2, 6) * 2], "not those to its requests"),
        ([receipt(0, 4) + receipt(2, 5), receipt(1, 6)], "not those to its requests"),
        ([receipt(0, 4) + receipt(1, 5), receipt(2, 7)], "3 receipts do not name 3 positions in a row"),
        ([receipt(0, 4) + receipt(1, 5), receipt(2, 5)], "3 receipts do not name 3 positions in a row"),
    ],
)
def test_a_command_without_a_receipt_of_its_own_fails_the_run(heard: list[bytes], problem: str) -> None:
    with pytest.raises(WrongReply, match=problem):
        calls.receipts(EXECUTES, exchange([[0], [1]], heard))


def test_answers_must_be_the_right_ones() -> None:
    queries, right = [BalanceOf("a"), BalanceOf("b")], {"a": 3, "b": 4}
    good, bad = (exchange([[0, 1]], [answer(0, 3) + answer(1, balance)]) for balance in (4, 5))
    calls.require_answers(ASKS, good, queries, right)
    with pytest.raises(WrongReply, match=r"BalanceOf\(account='b'\) was answered with 5, and not with 4"):
        calls.require_answers(ASKS, bad, queries, right)


def test_all_balances_come_as_one_answer() -> None:
    heard = b'{"id":0,"result":{"answer":{"a":3},"position":9},"jsonrpc":"2.0"}\n'
    assert calls.balances(calls.asks([AllBalances()], 1), exchange([[0]], [heard])) == {"a": 3}


# Redis.

SAID = """SET: rps=0.0 (overall: 0.0) avg_msec=-nan (overall: -nan)\rSET: rps=9 (overall: 9)\r====== SET ======
  100000 requests completed in 0.90 seconds
  50 parallel clients

Latency by percentile distribution:
0.000% <= 0.063 milliseconds (cumulative count 1)
50.000% <= 0.231 milliseconds (cumulative count 53586)
99.805% <= 0.807 milliseconds (cumulative count 99815)
99.902% <= 0.943 milliseconds (cumulative count 99903)
99.951% <= 1.991 milliseconds (cumulative count 99953)
100.000% <= 3.487 milliseconds (cumulative count 100000)

Cumulative distribution of latencies:
0.045% <= 0.103 milliseconds (cumulative count 45)
99.911% <= 1.007 milliseconds (cumulative count 99911)

Summary:
  throughput summary: 110987.79 requests per second
  latency summary (msec):
          avg       min       p50       p95       p99       max
        0.241     0.056     0.232     0.367     0.583     3.487
"""


def test_what_redis_benchmark_prints_is_read() -> None:
    assert redis.parse(SAID) == redis.Benchmark(110987.79, {"p50 ms": 0.232, "p99 ms": 0.583, "p99.9 ms": 0.943})
    with pytest.raises(WorkerFailed, match="it printed no result but SET: what"):
        redis.parse("SET: what?")


def test_redis_is_put_the_same_load_in_its_own_words() -> None:
    assert redis.sets([("account-0000012", 7), ("account-0000003", 100)], 2) == [
        Burst(
            b"*3\r\n$3\r\nSET\r\n$16\r\nkey:000000000012\r\n$3\r\n007\r\n"
            b"*3\r\n$3\r\nSET\r\n$16\r\nkey:000000000003\r\n$3\r\n100\r\n",
            2,
        )
    ]
    assert redis.gets(["account-0000012"], 2) == [Burst(b"*2\r\n$3\r\nGET\r\n$16\r\nkey:000000000012\r\n", 2)]


def test_replies_of_redis_that_are_not_as_they_should_be_fail_the_run() -> None:
    redis.require_all(exchange([], [b"+OK\r\n" * 2, b"+OK\r\n"]), redis.SET_REPLY, 3)
    redis.require_all(exchange([], [b"$3\r\n007\r\n$3\r\n100\r\n"]), redis.GET_REPLY, 2)
    with pytest.raises(WrongReply, match="Redis sent 3 replies to 4 requests"):
        redis.require_all(exchange([], [b"+OK\r\n" * 3]), redis.SET_REPLY, 4)
    with pytest.raises(WrongReply, match=r"Redis replied b'-ERR no"):
        redis.require_all(exchange([], [b"+OK\r\n-ERR no\r\n"]), redis.SET_REPLY, 2)


# Children.


def program(text: str) -> list[str]:
    return [sys.executable, "-c", text]


TOLD_TO_END = """
import pathlib, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
print("it is ready", flush=True)
signal.sigwait({signal.SIGTERM})
"""


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("print('first'); raise SystemExit(3)", "contender 'it' failed: it ended before it was ready\nfirst\n"),
        (f"{TOLD_TO_END}raise SystemExit(3)", "contender 'it' failed: exit 3"),
    ],
)
def test_a_server_that_fails_says_how(text: str, problem: str) -> None:
    with pytest.raises(WorkerFailed) as caught, running("it", program(text), "ready"):
        pass
    assert str(caught.value) == problem


def test_a_server_is_told_to_end_and_ends_in_its_own_time(tmp_path: Path) -> None:
    text = f"{TOLD_TO_END}pathlib.Path(sys.argv[1]).write_text('in good order')"
    with running("it", [*program(text), str(tmp_path / "ended")], "ready") as child:
        assert child.line == "it is ready"
        os.kill(child.pid, 0)
    assert (tmp_path / "ended").read_text() == "in good order"


def test_a_server_may_say_that_it_is_ready_where_it_says_what_is_wrong() -> None:
    text = f"import sys; print('first', file=sys.stderr, flush=True){TOLD_TO_END}"
    with running("it", program(text), "ready", errors_too=True) as child:
        assert child.said == "first\nit is ready\n"


@pytest.mark.parametrize(("taken", "tries"), [(0, 1), (2, 3), (3, 3)])
def test_a_port_that_another_took_meanwhile_is_not_the_end(taken: int, tries: int) -> None:
    ports: list[int] = []

    def command(port: int) -> list[str]:
        ports.append(port)
        return program("raise SystemExit('Address already in use')" if len(ports) <= taken else TOLD_TO_END)

    if taken < 3:
        with running_on_a_free_port("it", command, "is ready") as (child, port):
            assert (child.line, port) == ("it is ready", ports[-1])
    else:
        with pytest.raises(WorkerFailed, match="Address already in use"), running_on_a_free_port("it", command, "-"):
            pass
    assert len(ports) == tries


def test_a_server_that_fails_for_another_reason_is_not_begun_again() -> None:
    ports: list[int] = []

    def command(port: int) -> list[str]:
        ports.append(port)
        return program("raise SystemExit('no such option')")

    with pytest.raises(WorkerFailed, match="no such option"), running_on_a_free_port("it", command, "ready"):
        pass
    assert len(ports) == 1


def test_a_command_is_found_beside_this_python_before_the_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (scripts := tmp_path / "scripts").mkdir()
    for path in (scripts / "a-server", tmp_path / "a-server", tmp_path / "another"):
        path.touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(scripts))
    assert found("a-server") == str(scripts / "a-server")
    assert found("another") == str(tmp_path / "another")
    assert found("no-such-command") is None


def test_a_server_does_not_outlive_a_parent_that_was_killed(tmp_path: Path) -> None:
    os.mkfifo(alive := tmp_path / "alive")
    server = f"import signal; alive = open({str(alive)!r}, 'w'); print('ready', flush=True); signal.pause()"
    parent = f"""
import sys
from millstream.bench.socket.children import running
with running("it", [sys.executable, "-c", {server!r}], "ready"):
    print("running", flush=True)
    sys.stdin.read()
"""
    reader = os.open(alive, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with subprocess.Popen(program(parent), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"running\n"
            process.send_signal(signal.SIGKILL)
        os.set_blocking(reader, True)
        assert os.read(reader, 1) == b""  # which comes when nobody can write to it any more
    finally:
        os.close(reader)

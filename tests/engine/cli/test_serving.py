"""``millstream serve`` and ``millstream replica`` as processes: what they say, what they refuse, and how they end."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.engine.cli.running import Millstream, program

ROOT = Path(__file__).parents[3]
PROGRAM = [sys.executable, "-m", "millstream.engine.cli"]
BANK = "examples.bank:app"


class Process:
    """One that has begun to listen."""

    def __init__(self, child: subprocess.Popen[str], lines: list[dict[str, Any]]) -> None:
        self.child, self.lines = child, lines

    @property
    def addresses(self) -> list[str]:
        addresses: list[str] = self.lines[-1]["addresses"]
        return addresses

    def end(self, number: signal.Signals = signal.SIGTERM) -> list[str]:
        """End it; the names of the log lines that it still wrote."""
        self.child.send_signal(number)
        _, errors = self.child.communicate(timeout=30)
        assert self.child.returncode == 0, errors
        return [json.loads(line)["event"] for line in errors.splitlines()]


@contextmanager
def running(*arguments: str, cwd: Path, environment: dict[str, str] | None = None) -> Iterator[Process]:
    child = subprocess.Popen(
        [*PROGRAM, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
    )
    try:
        assert child.stderr is not None
        lines: list[dict[str, Any]] = []
        for line in child.stderr:
            assert line.startswith("{"), line + child.stderr.read()
            lines.append(json.loads(line))
            if lines[-1]["event"] == "server_listening":
                break
        yield Process(child, lines)
    finally:
        if child.poll() is None:
            child.kill()
            child.communicate()


SHOWING = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "1000", "TERMINAL_WIDTH": "1000"}


def refused(arguments: Sequence[str], cwd: Path) -> tuple[int, str]:
    done = subprocess.run(
        [*PROGRAM, *arguments], capture_output=True, text=True, cwd=cwd, env=SHOWING, timeout=30, check=False
    )
    return done.returncode, done.stderr


@pytest.fixture
def millstream(capsysbinary: pytest.CaptureFixture[bytes]) -> Millstream:
    return program(capsysbinary)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_application_is_served_until_a_signal_and_closed_in_order(
    number: signal.Signals, millstream: Millstream, tmp_path: Path
) -> None:
    with running("serve", BANK, "--listen", "tcp://127.0.0.1:0", cwd=tmp_path) as served:
        assert [line["event"] for line in served.lines] == ["opened", "server_listening"]
        (address,) = served.addresses
        assert millstream("execute", "Open", "account=ann", "--address", address).code == 0
        assert served.end(number) == ["server_stopped", "closed"]
    assert (tmp_path / "bank.db").exists()  # by the application's name


def test_it_listens_at_several_addresses_with_the_permissions_that_were_given(
    millstream: Millstream, tmp_path: Path
) -> None:
    socket = tmp_path / "bank.sock"
    listen = ("--listen", f"unix://{socket}", "--listen", "tcp://127.0.0.1:0")
    with running("serve", BANK, "--log", "memory:", *listen, "--unix-mode", "660", cwd=tmp_path) as served:
        assert stat.S_IMODE(socket.stat().st_mode) == 0o660
        for address in served.addresses:
            assert millstream("health", "--address", address).code == 0
        served.end()
    assert not socket.exists()


def test_where_it_listens_may_come_from_the_environment(millstream: Millstream, tmp_path: Path) -> None:
    environment = {"MILLSTREAM_ADDRESS": f"unix://{tmp_path}/bank.sock"}
    with running("serve", BANK, "--log", "memory:", cwd=tmp_path, environment=environment) as served:
        assert served.addresses == [f"unix://{tmp_path}/bank.sock"]


REFUSALS: tuple[tuple[list[str], int, str], ...] = (
    (["--listen", "tcp://0.0.0.0:0"], 2, "can be reached from other machines and has no tokens and no TLS"),
    (["--listen", "nowhere"], 2, "an address is tcp://HOST:PORT, tls://HOST:PORT or unix://PATH"),
    (["--listen", "tls://127.0.0.1:0"], 2, "wants TLS: give a certificate"),
    (["--certificate", "nothing.pem"], 2, "TLS can't be set up with 'nothing.pem'"),
    (["--private-key", "nothing.pem"], 2, "--private-key and --client-authorities go with --certificate"),
    (["--tokens", "nothing"], 2, "the tokens can't be read from 'nothing'"),
    (["--unix-mode", "rw"], 2, "permissions are octal, like 660, not 'rw'"),
    (["--http", "somewhere"], 2, "an address for HTTP is HOST:PORT"),
    (["--http", "0.0.0.0:0", "--listen", "unix://x.sock"], 2, "can be reached from other machines and has no"),
    (["--http", "https://127.0.0.1:0", "--listen", "unix://x.sock"], 2, "give a certificate"),
    (["--metrics"], 2, "--metrics goes with --http"),
    (["--log", "nowhere/bank.db"], 3, "there is no folder"),
)
#: Runs one command line after another in one process; of each the exit code and what it said.
REFUSING = """
import contextlib, io, json, sys
from millstream.engine.cli import main

said = []
for words in json.load(sys.stdin):
    with contextlib.redirect_stderr(io.StringIO()) as errors:
        code = main(words)
    said.append((code, errors.getvalue()))
json.dump(said, sys.stdout)
"""


def test_what_is_not_safe_or_not_there_is_refused_before_anything_is_served(tmp_path: Path) -> None:
    commands = [["serve", BANK, *arguments] for arguments, _, _ in REFUSALS]
    done = subprocess.run(
        [sys.executable, "-c", REFUSING],
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=SHOWING,
        timeout=60,  # one that is not refused has no end
        check=True,
    )
    for (arguments, code, problem), (ended, errors) in zip(REFUSALS, json.loads(done.stdout), strict=True):
        assert (arguments, ended, problem in " ".join(errors.split())) == (arguments, code, True), errors


def test_a_listener_for_other_machines_may_be_wanted_all_the_same(tmp_path: Path) -> None:
    with running(
        "serve", BANK, "--log", "memory:", "--listen", "tcp://0.0.0.0:0", "--insecure", cwd=tmp_path
    ) as served:
        assert served.addresses[0].startswith("tcp://0.0.0.0:")


def test_http_is_served_beside_the_socket_and_ends_with_it_though_somebody_watches(
    millstream: Millstream, tmp_path: Path
) -> None:
    options = ("--listen", f"unix://{tmp_path}/bank.sock", "--http", "127.0.0.1:0")
    with running("serve", BANK, "--log", "memory:", *options, cwd=tmp_path) as served:
        assert served.child.stderr is not None
        (url,) = json.loads(served.child.stderr.readline())["addresses"]
        assert httpx2.post(f"{url}/commands/Open", json={"account": "ann"}).status_code == 200
        (address,) = served.addresses
        assert millstream("ask", "BalanceOf", "account=ann", "--address", address).out == "0\n"
        with httpx2.stream("GET", f"{url}/watch/BalanceOf?account=ann") as watch:
            lines = watch.iter_lines()
            assert next(lines) == "id: 1"
            assert served.end() == ["server_stopped", "server_stopped", "closed"]
            assert list(lines) == ["data: 0", ""]


def test_metrics_are_at_http_and_know_what_is_served(tmp_path: Path) -> None:
    options = ("--listen", f"unix://{tmp_path}/bank.sock", "--http", "127.0.0.1:0", "--metrics", "--spans")
    with running("serve", BANK, "--log", "memory:", *options, cwd=tmp_path) as served:
        assert served.child.stderr is not None
        (url,) = json.loads(served.child.stderr.readline())["addresses"]
        assert httpx2.post(f"{url}/commands/Open", json={"account": "ann"}).status_code == 200
        lines = httpx2.get(f"{url}/metrics").text.splitlines()
        assert "millstream_position 1.0" in lines
        assert 'millstream_command_duration_seconds_count{command="Open",outcome="done"} 1.0' in lines
        assert served.end() == ["server_stopped", "server_stopped", "closed"]


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    with running("serve", BANK, "--listen", f"unix://{tmp_path}/one.sock", cwd=tmp_path):
        code, errors = refused(["serve", BANK, "--listen", f"unix://{tmp_path}/two.sock"], tmp_path)
        assert (code, "is open in another writer" in errors) == (3, True)


def test_tokens_say_who_may_do_what_and_appear_nowhere(millstream: Millstream, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("writer:a token for writing\nreader:a token for reading\n")
    (tmp_path / "reader").write_text("a token for reading")
    address = f"unix://{tmp_path}/bank.sock"
    options = ("--listen", address, "--tokens", "tokens")
    with running("serve", BANK, *options, cwd=tmp_path) as served:
        reader = ("--address", address, "--token-file", str(tmp_path / "reader"))
        assert millstream("ask", "BalanceOf", "account=ann", *reader).out == "null\n"
        ran = millstream("execute", "Open", "account=ann", *reader)
        assert (ran.code, "role 'reader'" in ran.err) == (6, True)
        assert millstream("ask", "BalanceOf", "account=ann", "--address", address).code == 6
        assert served.lines[-1]["tokens"] is True
        assert "a token" not in json.dumps(served.lines) + str(served.end())


def test_a_replica_answers_with_the_same_tokens_and_sends_commands_to_the_writer(
    millstream: Millstream, tmp_path: Path
) -> None:
    writer, replica = f"unix://{tmp_path}/writer.sock", f"unix://{tmp_path}/replica.sock"
    with (
        running("serve", BANK, "--listen", writer, cwd=tmp_path),
        running("replica", BANK, "--listen", replica, "--writer", writer, cwd=tmp_path) as follower,
    ):
        receipt = millstream("execute", "Open", "account=ann", "--address", replica, "--json").values
        receipt = millstream("execute", "Deposit", "account=ann", "amount:=7", "--address", writer, "--json").values
        after = ("--after", str(receipt["position"]))
        assert millstream("ask", "BalanceOf", "account=ann", "--address", replica, *after).out == "7\n"
        ran = millstream("watch", "BalanceOf", "account=ann", "--address", replica, *after, "--limit", "1", "--json")
        assert ran.values == {"answer": 7, "position": 2}
        health = millstream("health", "--address", replica, "--json").values
        assert (health["role"], health["ready"], health["lag_events"]) == ("replica", True, 0)
        assert millstream("stats", "--address", replica, "--json").values["position"] == 2
        assert follower.end()[-2:] == ["server_stopped", "replica_closed"]


def test_a_replica_without_a_writer_answers_and_refuses_commands(millstream: Millstream, tmp_path: Path) -> None:
    writer, replica = f"unix://{tmp_path}/writer.sock", f"unix://{tmp_path}/replica.sock"
    with running("serve", BANK, "--listen", writer, cwd=tmp_path):
        millstream("execute", "Open", "account=ann", "--address", writer)
        with running("replica", BANK, "--listen", replica, cwd=tmp_path):
            assert millstream("ask", "BalanceOf", "account=ann", "--address", replica, "--after", "1").out == "0\n"
            ran = millstream("execute", "Open", "account=bob", "--address", replica)
            assert (ran.code, "this process does not write, and takes no commands" in ran.err) == (7, True)


def test_a_replica_of_a_log_that_is_not_there_is_refused(tmp_path: Path) -> None:
    code, errors = refused(["replica", BANK, "--listen", f"unix://{tmp_path}/replica.sock"], tmp_path)
    assert (code, "bank.db is refused: it is not there" in errors) == (3, True)

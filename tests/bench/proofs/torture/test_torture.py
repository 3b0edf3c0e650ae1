"""The torture at its smallest: real processes are killed, and real logs that were tampered with are found out."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from hashlib import blake2b
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from millstream.bench import __main__ as command_line
from millstream.bench import publishing
from millstream.bench.bank import Deposit
from millstream.bench.proofs.files import DATABASE, copy_log, read_commits, stalled, wal_of
from millstream.bench.proofs.torture.application import Transfer, is_billed, limits, till
from millstream.bench.proofs.torture.check import Kind, Known, Problem, read_on
from millstream.bench.proofs.torture.child import Order
from millstream.bench.proofs.torture.images import Image, judge
from millstream.bench.proofs.torture.judgement import Found, Judgement
from millstream.bench.proofs.torture.plan import Ending, round_of
from millstream.bench.proofs.torture.process import PROGRAM, Child, hold, listen
from millstream.bench.proofs.torture.reopening import Reopened, reopen
from millstream.bench.proofs.torture.reports import Ack, Place, Refusal, Report
from millstream.bench.proofs.torture.rounds import Played, play
from millstream.bench.proofs.torture.run import Tally, Torture, run
from millstream.bench.proofs.torture.service import Call, calls_in, keep, service_of
from millstream.bench.proofs.torture.wal import Damage, Tear, transactions
from millstream.bench.proofs.torture.work import accounts, command, has_id, opening
from millstream.engine import CommitFailed, Engine, LogCorrupt, LogRefused
from millstream.engine.commits.body import events_in
from millstream.engine.commits.commit import Commit, Head

SECONDS = 30.0
#: In which it takes images whole and torn, sends commands again, closes, stalls, and kills at an answer.
SEED = 3241
UNDER_LOAD = msgspec.structs.replace(
    round_of(SEED, 0),
    answers=0.0,
    after_ms=0.0,
    stopped_ms=0.0,
    stalled_ms=0.0,
    at_answer=False,
    at_call=False,
    on_copy=True,
    loop="asyncio",
)


# The whole of it.


def test_the_whole_program_kills_finds_nothing_lost_and_writes_its_figures(tmp_path: Path) -> None:
    program = [sys.executable, "-m", "millstream.bench", "torture", "--kills", "3", "--images", "3", "--callers", "16"]
    program += ["--seed", str(SEED), "--dir", str(tmp_path / "out"), "--json", str(tmp_path / "figures.json")]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "3 kills, 3 images, 16 callers, seed 3241" in done.stdout
    assert "Nothing that was acknowledged is lost." in done.stdout
    tally = msgspec.json.decode((tmp_path / "figures.json").read_bytes(), type=Tally)
    assert (tally.images, tally.images_torn, tally.wrong, tally.problems, tally.evidence) == (3, 2, 0, [], None)
    assert tally.kills == 3
    assert tally.acknowledged > 0
    assert tally.effects > 0
    assert list((tmp_path / "out").iterdir()) == []


def test_a_log_of_0_1_is_upgraded_and_what_is_in_it_is_found_where_0_1_had_put_it(tmp_path: Path) -> None:
    orders = Torture(kills=1, images=0, callers=4, seed=SEED, directory=str(tmp_path), begins_in_format_1=True)
    tally = run(orders)
    assert (tally.kills, tally.wrong, tally.problems) == (1, 0, [])
    assert tally.repeated == len(accounts(4)) == 24


LIES = """
import sys, time
print("= opening\\n= open\\n* 9f0c-0-Courier.send\\n+ 0.open.all-0 1 1 1 0\\n+ 0.open.all-1 1 2 1 0", flush=True)
"""
#: Goes on giving answers.
BUSY_LIAR = f"{LIES}while True: print('~ 0', flush=True)"
#: Stops in the middle of a line.
SLOW_LIAR = f"{LIES}print('+ 0.open.all-2 1 3 1', end='', flush=True); time.sleep(60)"


def torture(tmp_path: Path, program: str) -> Tally:
    """A run of one kill, with another program in the child's place."""
    orders = Torture(kills=1, images=0, callers=4, seed=SEED, directory=str(tmp_path))
    return run(orders, program=[sys.executable, "-c", program])


def test_a_child_that_acknowledges_what_it_never_did_is_found_and_the_evidence_is_kept(tmp_path: Path) -> None:
    tally = torture(tmp_path, BUSY_LIAR)
    assert (tally.kills, tally.lost, tally.doubled, tally.misplaced, tally.otherwise) == (1, 2, 0, 0, 0)
    assert tally.problems[0] == (
        "round 0: acknowledged, and not in the log: 0.open.all-0: said to be at Place(commit=1, position=1, events=1)"
    )
    assert tally.evidence is not None
    assert sorted(path.name for path in Path(tally.evidence).glob("log of round 0/round 0/*")) == [
        "crashed",
        "errors.txt",
        "opened",
    ]


@pytest.mark.parametrize(
    ("program", "problem"),
    [
        ("raise SystemExit('no disk')", "was at [] and ended with 1: no disk"),
        ("raise SystemExit(3)", "the log's lock did not do its work: process 0 was refused, and no other had"),
        ("print('= open'); print('! a ghost')", "an answer did not show what was acknowledged: a ghost"),
    ],
)
def test_a_child_that_ends_badly_or_has_seen_something_is_found(program: str, problem: str, tmp_path: Path) -> None:
    tally = torture(tmp_path, program)
    assert any(problem in each for each in tally.problems), tally.problems
    assert (tally.kills, tally.wrong) == (0, tally.otherwise)


# Processes.


def child(tmp_path: Path, program: str = SLOW_LIAR) -> Child:
    order = Order(log=str(tmp_path / DATABASE), generation=0, callers=4)
    return Child(order, tmp_path / "errors.txt", [sys.executable, "-c", program])


def test_what_a_child_has_said_counts_up_to_its_last_whole_line(tmp_path: Path) -> None:
    with child(tmp_path) as liar:
        assert listen([liar], lambda: liar.said == 2, SECONDS)
        assert liar.calls == 1
        assert liar.marks == {"opening", "open"}
        assert liar.kill() == -signal.SIGKILL
        assert liar.reports() == [Ack("0.open.all-0", Place(1, 1, 1)), Ack("0.open.all-1", Place(1, 2, 1))]
        assert liar.ended
        assert liar.stop() is False


def test_a_stopped_child_says_no_more_until_it_goes_on(tmp_path: Path) -> None:
    with child(tmp_path, "while True: print('- a b', flush=True)") as talker:
        assert listen([talker], lambda: talker.said > 10, SECONDS)
        assert talker.stop() is True
        said = talker.said
        hold([talker], 5)
        assert talker.said == said
        talker.signal(signal.SIGCONT)
        assert listen([talker], lambda: talker.said > said, SECONDS)


def test_a_child_that_does_not_end_is_a_timeout_and_dies_with_the_context(tmp_path: Path) -> None:
    with child(tmp_path) as liar, pytest.raises(TimeoutError, match=r"process 0 has not ended within 0\.001 s"):
        liar.wait(0.001)
    assert liar.ended


def test_what_is_sent_again_by_another_process_is_answered_with_the_first_receipt(tmp_path: Path) -> None:
    order = Order(log=str(tmp_path / DATABASE), generation=0, callers=8)
    with Child(order, tmp_path / "errors.txt") as first:
        assert listen([first], lambda: first.said > 200, SECONDS)
        first.kill()
        acked = [each for each in first.reports() if isinstance(each, Ack) and has_id(each.name)]
    again = msgspec.structs.replace(order, generation=1, again=[each.name for each in acked[-50:]])
    with Child(again, tmp_path / "errors.txt") as second:

        def told() -> dict[str, Ack]:
            return {each.name: each for each in second.reports() if isinstance(each, Ack)}

        assert listen([second], lambda: {*again.again} <= told().keys(), SECONDS)
        for name in again.again:
            (ack,) = (each for each in acked if each.name == name)
            assert told()[name] == msgspec.structs.replace(ack, repeated=True)


def test_a_process_that_is_told_to_close_answers_everybody_and_ends_well(tmp_path: Path) -> None:
    order = Order(log=str(tmp_path / DATABASE), generation=0, callers=8, checkpoints=True)
    with Child(order, tmp_path / "errors.txt") as closing_child:
        assert listen([closing_child], lambda: closing_child.said > 200, SECONDS)
        closing_child.signal(signal.SIGTERM)
        assert closing_child.wait(SECONDS) == 0
        assert closing_child.marks == {"opening", "open", "closing", "closed"}
        reports = closing_child.reports()
    assert (tmp_path / "errors.txt").read_text() == ""
    last = {each.name.split(".")[1]: each for each in reports if isinstance(each, Ack | Refusal)}
    assert {last[str(caller)] for caller in range(8)} == {
        Refusal(last[str(caller)].name, "EngineClosed") for caller in range(8)
    }


def test_a_process_whose_parent_is_gone_ends_by_itself(tmp_path: Path) -> None:
    order = Order(log=str(tmp_path / DATABASE), generation=0, callers=8)
    command = [*PROGRAM, msgspec.json.encode(order).decode()]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as orphan:
        assert orphan.stdout is not None
        assert orphan.stdout.readline() == b"= opening\n"
        orphan.stdout.close()
        assert orphan.wait(SECONDS) == 4


def test_of_two_processes_one_is_refused_and_the_other_one_is_killed(tmp_path: Path) -> None:
    orders = [Order(log=str(tmp_path / DATABASE), generation=generation, callers=4) for generation in (0, 1)]
    plan = msgspec.structs.replace(UNDER_LOAD, rival_after_ms=0.0, at_answer=True)
    played = play(plan, (), orders, tmp_path, checkpointed=False)
    assert (played.problems, played.killed) == ([], True)
    assert played.generation in (0, 1)


@pytest.mark.parametrize(
    ("mark", "problem"),
    [("open", "both have it"), ("locked", "neither has it")],
)
def test_a_lock_that_two_have_or_none_is_found(mark: str, problem: str, tmp_path: Path) -> None:
    orders = [Order(log=str(tmp_path / DATABASE), generation=generation, callers=4) for generation in (0, 1)]
    plan = msgspec.structs.replace(UNDER_LOAD, rival_after_ms=0.0)
    program = f"print('= {mark}', flush=True); raise SystemExit(3)"
    played = play(plan, (), orders, tmp_path, checkpointed=False, program=[sys.executable, "-c", program])
    assert f"of two processes that wanted the log at once, {problem}" in [each.what for each in played.problems]


# A real log, and what may be wrong with it.

#: What comes together is one commit, however slow the machine is.
TOGETHER = msgspec.structs.replace(limits(), slice_ms_max=60_000)


async def _write(log: Path, names: Sequence[Sequence[str]]) -> list[Report]:
    """Execute commands, those of a list together; returns what a child would have said."""
    async with Engine(till, log=log, limits=TOGETHER, effects=False) as engine:
        said: list[Report] = []
        for batch in names:
            receipts = await asyncio.gather(*(engine.execute(command(name), command_id=name) for name in batch))
            said += (
                Ack(name, Place(each.commit, each.position, each.events))
                for name, each in zip(batch, receipts, strict=True)
            )
        return said


BATCHES = [[opening(0, account) for account in accounts(3)], ["0.0.0", "0.2.0"], ["0.2.1"], ["0.0.1", "0.2.2"]]


@pytest.fixture
def written(tmp_path: Path) -> tuple[Judgement, list[Report]]:
    """A log of four commits, which nobody has looked at yet, and what its callers were told."""
    (tmp_path / "round").mkdir()
    judgement = Judgement(tmp_path / DATABASE, callers=3)
    return judgement, asyncio.run(_write(judgement.log, BATCHES))


def looked_at(judgement: Judgement, reports: list[Report], folder: Path) -> list[Problem]:
    played = Played(reports, [], True, 0, [])
    plan = msgspec.structs.replace(UNDER_LOAD, on_copy=False)
    return judgement.next_round(plan, played, folder, Random(1)).problems


def rewrite(log: Path, commits: Sequence[Commit]) -> None:
    """Put other rows in the place of those that are there, numbered and sealed so that the chain is whole."""
    head = Head()
    with closing(sqlite3.connect(log, isolation_level=None)) as db:
        db.execute("DELETE FROM commits")
        for commit in commits:
            number, position = head.number + 1, head.position + 1
            content = head.digest + commit.recorded_at.encode() + commit.body
            digest = blake2b(content, digest_size=32).digest()
            row = (number, position, commit.recorded_at, commit.body.decode(), digest)
            db.execute("INSERT INTO commits VALUES (?, ?, ?, ?, ?)", row)
            head = Head(number, head.position + events_in(commit.body), commit.recorded_at, digest)


def test_a_real_log_is_right_and_so_is_the_engines_state(
    written: tuple[Judgement, list[Report]], tmp_path: Path
) -> None:
    judgement, said = written
    assert looked_at(judgement, said, tmp_path / "round") == []
    assert (judgement.known.head.number, len(judgement.told.acked)) == (4, 28)
    opened = reopen(judgement.log)
    assert isinstance(opened, Reopened)
    assert opened.view == opened.model == judgement.known.balances
    assert sum(opened.view.values()) > 0
    assert set(judgement.again) >= {"0.1.0", "0.1.1", "0.1.2", "0.0.2"}


def removed(commits: list[Commit]) -> list[Commit]:
    return [*commits[:2], *commits[3:]]


def doubled(commits: list[Commit]) -> list[Commit]:
    return [*commits, msgspec.structs.replace(commits[2], recorded_at=commits[-1].recorded_at)]


def swapped(commits: list[Commit]) -> list[Commit]:
    second, third = commits[1], commits[2]
    moved = [msgspec.structs.replace(second, body=third.body), msgspec.structs.replace(third, body=second.body)]
    return [commits[0], *moved, *commits[3:]]


@pytest.mark.parametrize(
    ("tamper", "kind"),
    [(removed, Kind.LOST), (doubled, Kind.DOUBLED), (swapped, Kind.MISPLACED)],
)
def test_a_log_that_was_tampered_with_is_found_although_its_chain_is_whole(
    tamper: Callable[[list[Commit]], list[Commit]],
    kind: Kind,
    written: tuple[Judgement, list[Report]],
    tmp_path: Path,
) -> None:
    judgement, said = written
    rewrite(judgement.log, tamper(read_commits(judgement.log)))
    problems = looked_at(judgement, said, tmp_path / "round")
    assert kind in {problem.kind for problem in problems}, problems
    assert Kind.BROKEN not in {problem.kind for problem in problems}


def test_a_row_that_was_edited_keeps_the_engine_from_opening_and_that_is_found(
    written: tuple[Judgement, list[Report]], tmp_path: Path
) -> None:
    judgement, said = written
    with closing(sqlite3.connect(judgement.log, isolation_level=None)) as db:
        db.execute("UPDATE commits SET body = replace(body, '\"amount\":', '\"amount\": ') WHERE number = 3")
    problems = looked_at(judgement, said, tmp_path / "round")
    assert problems[0].kind is Kind.UNOPENED
    assert "LogCorrupt" in problems[0].what


def test_commits_that_vanish_between_two_rounds_are_found(
    written: tuple[Judgement, list[Report]], tmp_path: Path
) -> None:
    judgement, said = written
    assert looked_at(judgement, said, tmp_path / "round") == []
    rewrite(judgement.log, read_commits(judgement.log)[:3])
    (tmp_path / "another round").mkdir()
    problems = looked_at(judgement, [Refusal("0.1.0", "Rejected")], tmp_path / "another round")
    assert Problem(Kind.REWRITTEN, "there were 4 commits, now there are 3") in problems


def astray(log: Path) -> Reopened:
    """What an engine would say that has lost count in one account."""
    opened = reopen(log)
    assert isinstance(opened, Reopened)
    return opened._replace(view={**opened.view, "own-2": 0})


def test_an_engine_whose_state_is_not_the_logs_is_found(
    written: tuple[Judgement, list[Report]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judgement, said = written
    monkeypatch.setattr("millstream.bench.proofs.torture.judgement.reopen", astray)
    problems = looked_at(judgement, said, tmp_path / "round")
    assert [problem.kind for problem in problems] == [Kind.BALANCES]
    assert problems[0].what.startswith("own-2: the engine's view has 0, the log has ")


def test_a_state_that_is_not_the_logs_is_found_on_both_sides() -> None:
    opened = Reopened(1, {"a": 1}, {"a": 2}, 3)
    assert opened.wrong({"a": 1}, 3)[0].what == "a: the engine's write model has 2, the log has 1"
    assert opened.wrong({"a": 2}, 3)[0].what == "a: the engine's view has 1, the log has 2"
    assert [problem.kind for problem in Reopened(1, {}, {}, 3).wrong({}, 4)] == [Kind.AGENDA]


WRITER = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None)
db.execute("PRAGMA journal_mode=WAL").fetchall()
db.execute("CREATE TABLE t (number INTEGER)")
print("ready", flush=True)
for line in sys.stdin:
    try:
        db.execute("INSERT INTO t VALUES (1)")
        print("written", flush=True)
    except sqlite3.OperationalError as error:
        print(error, flush=True)
"""


def test_nobody_writes_a_log_that_is_stalled_and_all_goes_on_afterwards(tmp_path: Path) -> None:
    log = tmp_path / DATABASE
    with stalled(log):  # there is none yet, so there is nothing to lock
        pass
    command = [sys.executable, "-c", WRITER, str(log)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as writer:
        assert writer.stdin is not None
        assert writer.stdout is not None
        said = [writer.stdout.readline()]
        with stalled(log):
            writer.stdin.write("write\n")
            said.append(writer.stdout.readline())
        writer.stdin.write("write\n")
        said.append(writer.stdout.readline())
        writer.stdin.close()
    assert said == ["ready\n", "database is locked\n", "written\n"]


# Effects.

#: Leaves a log that owes an effect which the service has seen and nobody has settled.
CUT_OFF = """
import asyncio, os, signal, sys
from pathlib import Path
from millstream.bench.proofs.torture.application import Courier, till
from millstream.bench.proofs.torture.service import Service, service_of
from millstream.bench.proofs.torture.work import command
from millstream.engine import Engine

async def main(log, names):
    service = Service(service_of(log), 0, lambda _: os.kill(os.getpid(), signal.SIGKILL))
    async with Engine(till, log=log, effects=[Courier(service)]) as engine:
        await engine.execute_many(map(command, names), command_ids=names)
        await asyncio.Event().wait()

asyncio.run(main(Path(sys.argv[1]), sys.argv[2:]))
"""


#: The position of the event that it owes it for. How the effect goes is another thing each time: it follows from the
#: digest, and so from the time.
SIXTH = 6


def billed() -> list[str]:
    """Names of commands of which the last is a transfer for which a bill is sent, with the sixth event."""
    sent = ((f"0.1.{number}", command(f"0.1.{number}")) for number in range(1_000))
    name, transfer = next((n, t) for n, t in sent if isinstance(t, Transfer) and is_billed(t.amount))
    paid_in = ((f"0.0.{number}", command(f"0.0.{number}")) for number in range(10_000))
    deposit = next(
        n
        for n, d in paid_in
        if isinstance(d, Deposit) and d.account == transfer.account and d.amount >= transfer.amount
    )
    return [opening(0, transfer.account), opening(0, transfer.to), deposit, name]


@pytest.fixture(scope="module")
def cut_off(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log whose process was killed between an attempt and its settlement. Not to be changed: to be copied."""
    log = tmp_path_factory.mktemp("cut off") / DATABASE
    done = subprocess.run([sys.executable, "-c", CUT_OFF, str(log), *billed()], check=False)
    assert done.returncode == -signal.SIGKILL
    return log


@pytest.fixture
def owing(cut_off: Path, tmp_path: Path) -> Judgement:
    """A copy of it, with its service."""
    log = copy_log(cut_off, tmp_path / "log")
    keep(service_of(log), calls_in(service_of(cut_off)))
    return Judgement(log, callers=0)


def test_an_effect_that_a_kill_cut_off_is_performed_again_under_its_id_and_settled_once(owing: Judgement) -> None:
    (first,) = calls_in(service_of(owing.log))
    assert (first.number, first.position, first.generation) == (1, SIXTH, 0)
    found = owing.last(Found([]))
    assert found.problems == []
    assert (found.effects, found.effects_again) == (1, 1)
    (bill,) = owing.known.owing.known.values()
    assert (bill.id, bill.position) == (first.id, SIXTH)
    assert {(each.id, each.generation) for each in owing.calls} == {(bill.id, 0), (bill.id, -1)}
    assert owing.known.owing.owed == {}
    assert owing.last(Found([])) == Found([])  # nothing is left to be done


def test_an_engine_that_forgets_what_it_owes_is_found(owing: Judgement, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("millstream.bench.proofs.torture.judgement.drain", lambda _: 0)
    problems = owing.last(Found([])).problems
    assert {each.kind for each in problems} >= {Kind.EFFECT, Kind.AGENDA}
    assert any("forgotten: Bill(id='" in each.what for each in problems)


def another_id(call: Call) -> Call:
    return msgspec.structs.replace(call, id=f"0{call.id[1:]}" if call.id[0] != "0" else f"1{call.id[1:]}")


@pytest.mark.parametrize("position", [False, True])
def test_an_engine_that_performs_under_another_id_is_found(position: bool, owing: Judgement) -> None:
    (there,) = calls_in(service_of(owing.log))
    other = msgspec.structs.replace(there, id="6-Courier.send") if position else another_id(there)
    keep(service_of(owing.log), [other])
    problems = owing.last(Found([])).problems
    assert [each.kind for each in problems] == [Kind.EFFECT]
    assert "is for what no durable commit owes" in problems[0].what


def test_an_engine_that_settles_what_it_never_performed_is_found(
    owing: Judgement, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("millstream.bench.proofs.torture.service.os.write", lambda _, line: len(line))
    keep(service_of(owing.log), [])
    problems = owing.last(Found([])).problems
    assert any("is settled, and was never performed" in each.what for each in problems), problems


def test_an_engine_that_performs_what_is_settled_is_found(owing: Judgement) -> None:
    assert owing.last(Found([])).problems == []
    keep(service_of(owing.log), [*owing.calls, msgspec.structs.replace(owing.calls[-1], generation=5, number=1)])
    problems = owing.last(Found([])).problems
    assert any("that was settled before it was called for: " in each.what for each in problems), problems


def test_an_engine_that_settles_twice_is_found(owing: Judgement) -> None:
    assert owing.last(Found([])).problems == []
    rows = read_commits(owing.log)
    (settled,) = (row for row in rows if f'"effect":{SIXTH}'.encode() in row.body)
    rewrite(owing.log, [*rows, msgspec.structs.replace(settled, recorded_at=rows[-1].recorded_at)])
    _, problems = read_on(owing.known, read_commits(owing.log))
    assert f"commit {len(rows) + 1}: the effect of event {SIXTH} is settled, and was not owed" in [
        each.what for each in problems
    ]


def test_an_image_goes_on_with_a_service_that_has_seen_what_it_owes(owing: Judgement, tmp_path: Path) -> None:
    log, calls = copy_log(owing.log, tmp_path / "image"), calls_in(service_of(owing.log))
    rows = read_commits(copy_log(owing.log, tmp_path / "read"))
    assert judge(Image(log, None, 0, False, calls), 1, Known(), rows, Random(1)) == ([], False)
    assert len(calls_in(service_of(tmp_path / "image" / "opened" / DATABASE))) > len(calls)


def test_an_image_that_owes_nothing_of_what_was_performed_by_then_is_found(owing: Judgement, tmp_path: Path) -> None:
    log, calls = copy_log(owing.log, tmp_path / "image"), calls_in(service_of(owing.log))
    rows = read_commits(copy_log(owing.log, tmp_path / "read"))
    early = Image(log, None, 0, False, [another_id(calls[0])])
    found = judge(early, 1, Known(), rows, Random(1)).problems
    assert [each.kind for each in found] == [Kind.EFFECT]
    assert found[0].what.startswith("an image: call 1 is for what no durable commit owes: ")


def test_an_image_from_which_what_was_performed_is_torn_gives_its_id_to_nothing_else(
    owing: Judgement, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, calls = copy_log(owing.log, tmp_path / "image"), calls_in(service_of(owing.log))
    rows = read_commits(copy_log(owing.log, tmp_path / "read"))
    torn = Image(log, Tear(Damage.CUT, 0.0, late=False), 0, False, calls)
    assert judge(torn, 1, Known(), rows, Random(1)) == ([], False)
    assert calls_in(service_of(tmp_path / "image" / "opened" / DATABASE)) == calls
    monkeypatch.setattr("millstream.bench.proofs.torture.images.read_on", lambda *_: read_on(Known(), rows))
    torn = Image(copy_log(owing.log, tmp_path / "again"), torn.tear, 0, False, calls)
    found = judge(torn, 1, Known(), rows, Random(1)).problems
    assert f"an image, gone on: the id {calls[0].id} was given a second time" in [each.what for each in found]


# Images.


@pytest.fixture
def imaged(tmp_path: Path) -> tuple[Path, list[Commit]]:
    """A copy of a log's files while it is open, all of it in the WAL; and its final rows."""

    async def scenario() -> None:
        log = tmp_path / "live" / DATABASE
        log.parent.mkdir()
        async with Engine(till, log=log, limits=TOGETHER, effects=False) as engine:
            for batch in BATCHES:
                await asyncio.gather(*(engine.execute(command(name), command_id=name) for name in batch))
            copy_log(log, tmp_path / "image")
            await engine.execute(command("0.2.3"), command_id="0.2.3")

    asyncio.run(scenario())
    return tmp_path / "image" / DATABASE, read_commits(tmp_path / "live" / DATABASE)


def test_an_image_holds_what_was_acknowledged_and_is_how_the_log_begins(imaged: tuple[Path, list[Commit]]) -> None:
    log, final = imaged
    assert len(final) == 5
    assert judge(Image(log, None, 0, False), 4, Known(), final, Random(1)) == ([], False)


def test_an_image_that_lacks_an_acknowledged_commit_or_holds_another_is_found(
    imaged: tuple[Path, list[Commit]], tmp_path: Path
) -> None:
    log, final = imaged
    lacking = judge(Image(log, None, 0, False), 5, Known(), final, Random(1))
    assert lacking.problems == [Problem(Kind.LOST, "an image, has 4 commits, and must have 5")]
    copy = copy_log(log, tmp_path / "copy")
    other = [*final[:2], msgspec.structs.replace(final[2], body=b"[]"), *final[3:]]
    found = judge(Image(copy, None, 0, False), 4, Known(), other, Random(1))
    assert {problem.kind for problem in found.problems} == {Kind.REWRITTEN}


@pytest.mark.parametrize("damage", list(Damage))
@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.9, 1.0])
def test_a_torn_image_opens_to_all_that_lay_before_the_tear(
    damage: Damage, share: float, imaged: tuple[Path, list[Commit]]
) -> None:
    log, final = imaged
    found = judge(Image(log, Tear(damage, share, late=False), 0, False), 4, Known(), final, Random(1))
    assert found == ([], False)
    ends = transactions(wal_of(log).read_bytes())
    left = sum(end <= share * ends[-1] for end in ends)
    opened = read_commits(log.parent / "opened" / DATABASE)
    assert len(ends) - left >= 4 - len(opened)
    assert len(opened) == {0.0: 0, 1.0: 4}.get(share, len(opened))


def forgetful(log: Path) -> Reopened | Exception:
    """An engine that opens a log and forgets its last commit."""
    opened = reopen(log)
    with closing(sqlite3.connect(log, isolation_level=None)) as db:
        db.execute("DELETE FROM commits WHERE number = (SELECT max(number) FROM commits)")
    return opened


@pytest.mark.parametrize("share", [0.9, 1.0])
def test_an_engine_that_forgets_more_of_a_torn_image_than_the_tear_took_is_found(
    share: float, imaged: tuple[Path, list[Commit]], monkeypatch: pytest.MonkeyPatch
) -> None:
    log, final = imaged
    monkeypatch.setattr("millstream.bench.proofs.torture.images.reopen", forgetful)
    found = judge(Image(log, Tear(Damage.CUT, share, late=False), 0, False), 4, Known(), final, Random(1))
    assert {problem.kind for problem in found.problems} == {Kind.LOST, Kind.BALANCES}
    left = 4 if share == 1.0 else 3
    assert found.problems[0].what.endswith(f"transactions hit, has {left - 1} commits, and must have {left}")


def test_an_engine_that_opens_an_image_to_another_state_is_found(
    imaged: tuple[Path, list[Commit]], monkeypatch: pytest.MonkeyPatch
) -> None:
    log, final = imaged
    monkeypatch.setattr("millstream.bench.proofs.torture.images.reopen", astray)
    found = judge(Image(log, None, 0, False), 4, Known(), final, Random(1))
    assert [problem.kind for problem in found.problems] == [Kind.BALANCES]


@pytest.mark.parametrize(
    ("error", "checkpointed", "share", "expected"),
    [
        (LogCorrupt("x", 3, "a hole"), True, 0.5, (0, True)),
        (LogRefused("x", "so", "do"), True, 0.5, (0, True)),
        (LogCorrupt("x", 3, "a hole"), False, 0.5, (1, False)),
        (LogCorrupt("x", 3, "a hole"), True, 1.0, (1, False)),
        (sqlite3.DatabaseError("disk image is malformed"), True, 0.5, (1, False)),
        (CommitFailed(3, "no"), True, 0.5, (1, False)),
    ],
)
def test_an_image_may_be_refused_only_where_no_crash_tears_and_only_by_an_error_of_ours(
    error: Exception,
    checkpointed: bool,
    share: float,
    expected: Any,
    imaged: tuple[Path, list[Commit]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log, final = imaged
    monkeypatch.setattr("millstream.bench.proofs.torture.images.reopen", lambda _: error)
    found = judge(Image(log, Tear(Damage.CUT, share, late=False), 0, checkpointed), 4, Known(), final, Random(1))
    assert (len(found.problems), found.refused) == expected
    assert {problem.kind for problem in found.problems} <= {Kind.UNOPENED}


def test_an_image_of_a_log_that_is_not_there_yet_is_an_empty_one(tmp_path: Path) -> None:
    log = copy_log(tmp_path / "live" / DATABASE, tmp_path / "image")
    assert not log.exists()
    assert judge(Image(log, Tear(Damage.CUT, 0.5, late=True), 0, False), 0, Known(), [], Random(1)) == ([], False)
    assert read_commits(log) == []


# The command line.


@pytest.mark.parametrize("arguments", [["--kills", "0"], ["--callers", "many"], ["--seed", "x"], ["--smoke"]])
def test_a_wrong_option_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command_line.main(["torture", *arguments])
    assert caught.value.code == 2
    assert arguments[0] in capsys.readouterr().err


@pytest.mark.parametrize(("lost", "code"), [(0, 0), (2, 1)])
def test_the_table_says_what_was_found_and_so_does_the_exit_code(
    lost: int, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    problems = ["round 7: lost [bold]"] if lost else []
    tally = Tally(seed=41, kills=9, images=8, images_refused=1, lost=lost, problems=problems, evidence="out/x")
    monkeypatch.setattr("millstream.bench.proofs.torture.command.run", lambda *_: tally)
    assert command_line.main(["torture", "--dir", str(tmp_path), "--seed", "41"]) == code
    said = capsys.readouterr().out
    assert "100 kills, 100 images, 100 callers, seed 41" in said
    assert "1 images, torn as no crash tears, were refused with a typed error." in said
    assert ("Nothing that was acknowledged is lost." in said) is (code == 0)
    assert ("wrong: round 7: lost [bold]" in said) is (code == 1)
    assert ("2 things are wrong. Seed 41; the evidence is kept in out/x" in said) is (code == 1)


def test_without_rich_it_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(publishing, "find_spec", lambda _: None)
    assert command_line.main(["torture", "--dir", str(tmp_path / "out")]) == 2
    assert (
        capsys.readouterr().err == "millstream.bench shows its report with rich: install the extra millstream[bench]\n"
    )
    assert not (tmp_path / "out").exists()


def test_every_way_to_end_is_played_to_its_end(tmp_path: Path) -> None:
    log, judgement = tmp_path / DATABASE, Judgement(tmp_path / DATABASE, callers=8)
    for number, ending in enumerate(Ending):
        plan = msgspec.structs.replace(UNDER_LOAD, number=number, ending=ending, answers=10.0, after_ms=5.0)
        (folder := tmp_path / f"round {number}").mkdir()
        played = play(plan, (), [Order(log=str(log), generation=number, callers=8)], folder, checkpointed=False)
        assert judgement.next_round(plan, played, folder, Random(1)).problems == []
        if ending in (Ending.LOAD, Ending.CLOSING):
            assert len(played.reports) > 10 * 8
        if ending in (Ending.START, Ending.OPENING, Ending.LOAD):
            assert played.killed
        if ending is Ending.TERMINATED:
            assert not played.killed

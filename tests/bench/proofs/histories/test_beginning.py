"""What lies in an older log is a history that is right, and an engine that opens the log goes on from there."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from millstream.bench.proofs.files import read_commits
from millstream.bench.proofs.histories.accounts import Deposit, Open, StandingOf, Withdraw, accounts
from millstream.bench.proofs.histories.beginning import beginning, not_upgraded
from millstream.bench.proofs.histories.by_position import check_places, read_log
from millstream.bench.proofs.histories.linear import Linearizable, check_each
from millstream.bench.proofs.histories.spec import Accepted, Account, Sent
from millstream.bench.proofs.older import write_in_format_1
from millstream.engine import Engine, Metadata
from millstream.engine.commits.commit import Commit

ACCOUNTS = ["ann", "ben", "cid"]


def test_it_is_what_the_seed_says_and_has_commands_of_each_kind_with_ids_and_without() -> None:
    begun = beginning(7, ACCOUNTS)
    assert begun == beginning(7, ACCOUNTS) != beginning(8, ACCOUNTS)
    assert {each.key for each in begun.history} == set(ACCOUNTS)
    assert len(begun.history) == sum(map(len, begun.commits)) == 200
    assert {type(older.command) for commit in begun.commits for older in commit} == {Open, Deposit, Withdraw}
    assert [older.id for commit in begun.commits for older in commit if older.id] == [each.name for each in begun.again]
    assert len(begun.again) == 180


def test_as_a_log_it_is_right_by_its_positions_and_linearizable(tmp_path: Path) -> None:
    begun = beginning(7, ACCOUNTS)
    write_in_format_1(tmp_path / "bank.db", accounts, begun.commits)
    commits = read_commits(tmp_path / "bank.db")
    assert {commit.body[:1] for commit in commits} == {b"["}
    written, problems = read_log(commits)
    assert [*problems, *check_places(begun.history, written)] == []
    verdicts = check_each(Account(), begun.history)
    assert {key: type(each) for key, each in verdicts.items()} == dict.fromkeys(ACCOUNTS, Linearizable)


@pytest.mark.anyio
async def test_an_engine_upgrades_it_answers_what_is_in_it_as_repeated_and_goes_on_from_its_versions(
    tmp_path: Path,
) -> None:
    begun = beginning(7, ACCOUNTS)
    write_in_format_1(tmp_path / "bank.db", accounts, begun.commits)
    told = {each.asked.name: each.output for each in begun.history if isinstance(each.asked, Sent)}
    with capture_logs() as lines:
        async with Engine(accounts, log=tmp_path / "bank.db") as engine:
            for again in begun.again:
                known = Metadata(correlation=again.name)
                receipt = await engine.execute(again.command, command_id=again.name, metadata=known)
                assert receipt.repeated
                assert Accepted.of(receipt) == told[again.name]
            standing = await engine.ask(StandingOf("ann"))
            receipt = await engine.execute(Deposit("ann", 1))
    assert "log_upgraded" in [line["event"] for line in lines]
    assert standing.version == sum(each.key == "ann" for each in begun.history)
    assert (receipt.version, receipt.position) == (standing.version + 1, 201)
    assert not_upgraded(read_commits(tmp_path / "bank.db")) == []


@pytest.mark.parametrize(
    ("formats", "counted"), [("", (0, 0)), ("11", (2, 0)), ("22", (0, 2)), ("1212", (2, 2)), ("21", (1, 1))]
)
def test_a_log_that_was_not_upgraded_is_found(formats: str, counted: tuple[int, int]) -> None:
    bodies = {"1": b"[]", "2": b"{}"}
    commits = [Commit(number, 1, "", bodies[each], b"") for number, each in enumerate(formats, 1)]
    first, then = counted
    assert not_upgraded(commits) == [
        f"not a log that began in format 1 and was upgraded: {first} commits of format 1, {then} of format 2"
    ]

from __future__ import annotations

import msgspec
import pytest

from millstream.engine import LogCorrupt
from millstream.engine.commits.chain import Chain, head_of
from millstream.engine.commits.commit import Commit, Head
from tests.engine.upkeep.chains import FIVE, deposit, sealed
from tests.support import sealed_rows


def taken(*commits: Commit) -> Chain:
    chain = Chain("bank.db")
    for commit in commits:
        chain.take(commit)
    return chain


def test_a_chain_that_was_sealed_is_taken_and_the_head_counts_its_events() -> None:
    assert taken().head == Head()
    assert taken(*FIVE).head == Head(5, 7, FIVE[-1].recorded_at, FIVE[-1].digest)
    assert head_of("bank.db", FIVE[3]) == Head.after(FIVE[3], 3) == Head(4, 6, FIVE[3].recorded_at, FIVE[3].digest)


def test_looking_at_a_commit_takes_nothing() -> None:
    chain = taken(FIVE[0])
    chain.check(FIVE[1])
    assert chain.head.number == 1


def resealed(recorded_at: str) -> Commit:
    """The second commit with another time and the digest that belongs to it."""
    return sealed_rows(taken(FIVE[0]).head, recorded_at, [deposit("ann", 3)])


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        (msgspec.structs.replace(FIVE[1], number=3), "commit 3 stands where 2 should"),
        (msgspec.structs.replace(FIVE[1], number=1), "commit 1 stands where 2 should"),
        (msgspec.structs.replace(FIVE[1], position=4), "its first event has position 4, but should have 3"),
        (
            msgspec.structs.replace(FIVE[1], body=b"[]"),
            "its digest does not match its content and the commit before it",
        ),
        (msgspec.structs.replace(FIVE[1], recorded_at=FIVE[2].recorded_at), "its digest does not match"),
        (msgspec.structs.replace(FIVE[1], digest=bytes(32)), "its digest does not match"),
        (sealed([deposit("ann", 3)], after=Head(1, 2))[0], "its digest does not match"),
        (
            resealed("2025-12-31T23:59:59.999999Z"),
            "its time 2025-12-31T23:59:59.999999Z is before 2026-01-01T00:00:00.000000Z",
        ),
        (resealed("zzz"), "its time is 'zzz', and not one like 2026-01-31T12:00:00.000000Z"),
        (resealed("9" * 1_000), f"its time is '{'9' * 40}', and not one like"),
    ],
)
def test_a_commit_that_breaks_a_rule_is_found_and_named_and_not_taken(changed: Commit, problem: str) -> None:
    chain = taken(FIVE[0])
    for look in (chain.check, chain.take):
        with pytest.raises(LogCorrupt, match=problem) as raised:
            look(changed)
        assert (raised.value.log, raised.value.commit) == ("bank.db", 2)
    assert chain.head == taken(FIVE[0]).head


def test_two_commits_may_have_the_same_time() -> None:
    assert taken(FIVE[0], resealed(FIVE[0].recorded_at)).head.number == 2


def test_a_body_that_is_no_array_of_commands_is_not_taken_although_its_digest_is_right() -> None:
    chain, odd = Chain("bank.db"), sealed_rows(Head(), "2026-01-01T00:00:00.000000Z", msgspec.Raw(b"5"))  # type: ignore[arg-type]
    chain.check(odd)
    with pytest.raises(LogCorrupt, match="its body is not that of a commit: Expected `array`, got `int`"):
        chain.take(odd)
    assert chain.head == Head()

"""The service that the tortured bank calls: what it has seen outlives whoever called it."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from millstream.bench.proofs.torture.service import (
    LINE_BYTES,
    Call,
    Fate,
    Service,
    calls_in,
    fate_of,
    keep,
    service_of,
)

CALLER = """
import os, signal, sys
from pathlib import Path
from millstream.bench.proofs.torture.service import Service

service = Service(Path(sys.argv[1]), 7, lambda _: os.kill(os.getpid(), signal.SIGKILL))
service.open()
service.call("a-0-Courier.send", 1, 41, "all-3")
"""


def test_a_call_is_kept_before_its_caller_can_be_killed_for_having_said_so(tmp_path: Path) -> None:
    file = tmp_path / "service.jsonl"
    for _ in range(2):
        subprocess.run([sys.executable, "-c", CALLER, str(file)], check=False)
    assert calls_in(file) == [Call("a-0-Courier.send", 1, 41, "all-3", 7)] * 2


def test_a_call_says_which_it_is_of_all_that_there_were_whoever_called(tmp_path: Path) -> None:
    heard: list[str] = []
    for generation in (0, 1):
        service = Service(tmp_path / "file", generation, heard.append)
        service.open()
        assert [service.call(f"e{number}", 1, number, "a") for number in range(3)] == [
            3 * generation + 1,
            3 * generation + 2,
            3 * generation + 3,
        ]
        service.close()
    assert heard == ["e0", "e1", "e2", "e0", "e1", "e2"]
    assert (tmp_path / "file").stat().st_size == 6 * LINE_BYTES
    assert [(each.id, each.generation) for each in calls_in(tmp_path / "file")][2:4] == [("e2", 0), ("e0", 1)]


def test_what_was_called_can_be_kept_for_another_one(tmp_path: Path) -> None:
    calls = [Call("e0", 1, 1, "a", 0), Call("e1", 2, 9, "b", 3)]
    keep(tmp_path / "file", calls)
    assert calls_in(tmp_path / "file") == calls
    assert calls_in(tmp_path / "none") == []
    with pytest.raises(ValueError, match="a line has 128 bytes, and a call has 213: Call"):
        keep(tmp_path / "file", [Call("e0", 1, 1, "a" * 150, 0)])


def test_a_service_lies_beside_a_log_and_is_no_part_of_it() -> None:
    assert service_of(Path("somewhere/bank.db")) == Path("somewhere/service.jsonl")


def test_a_fate_follows_from_an_id_alone_and_most_effects_are_done_at_once() -> None:
    ids = [f"{number:016x}-0-Courier.send" for number in range(3_200)]
    found = Counter(map(fate_of, ids))
    assert found == Counter(map(fate_of, ids))
    assert found.keys() == set(Fate)
    assert found[Fate.DONE] > 1_500

"""``millstream new``: what it writes is an application whose tests pass, whose types are sound, and which is served."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from millstream.engine.cli.load import load_app
from tests.engine.cli.running import Millstream, program, served


@pytest.fixture
def millstream(
    capsysbinary: pytest.CaptureFixture[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Millstream:
    monkeypatch.chdir(tmp_path)
    return program(capsysbinary)


def test_what_it_writes_passes_its_own_tests_and_is_served(
    millstream: Millstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = millstream("new", "theatre")
    assert (ran.code, ran.err) == (0, "")
    assert "millstream serve theatre:app" in ran.out
    assert sorted(path.name for path in (tmp_path / "theatre").iterdir()) == ["test_theatre.py", "theatre.py"]
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"],
        cwd=tmp_path / "theatre",
        capture_output=True,
        text=True,
        check=False,
    )
    assert "2 passed" in tested.stdout, tested.stdout + tested.stderr
    monkeypatch.syspath_prepend(tmp_path / "theatre")
    monkeypatch.setenv("MILLSTREAM_ADDRESS", f"unix://{tmp_path}/socket")
    with served(load_app("theatre:app"), tmp_path / "log.db", tmp_path / "socket"):
        assert millstream("execute", "Book", "show=hamlet", "seats:=2").code == 0
        assert millstream("ask", "SeatsBooked", "show=hamlet").out == "2\n"


def test_what_is_there_is_left_alone_and_a_name_is_one_of_a_module(millstream: Millstream, tmp_path: Path) -> None:
    assert millstream("new", "theatre", "here/and/there").code == 0
    (tmp_path / "here/and/there/theatre.py").write_text("mine")
    ran = millstream("new", "theatre", "here/and/there")
    assert (ran.code, ran.out, "is there already" in ran.err) == (3, "", True)
    assert (tmp_path / "here/and/there/theatre.py").read_text() == "mine"
    for name in ("a-b", "class", "typing", "millstream", "1st"):
        ran = millstream("new", name)
        assert (ran.code, "can't be the name of a module" in " ".join(ran.err.split())) == (2, True)

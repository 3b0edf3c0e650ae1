"""A release is refused before anything is done where the version, the changelog or the tree does not say it is one."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAKEFILE = "test check docs wheel:\n\t@echo made $@ >> ../made\n"


def git(folder: Path, *arguments: str) -> str:
    own = ("-c", "user.name=ann", "-c", "user.email=ann@example.org", "-c", "commit.gpgsign=false")
    return subprocess.run(["git", *own, *arguments], cwd=folder, capture_output=True, check=True, text=True).stdout


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with the script, a version, its section in the changelog, and targets that note that they ran."""
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "ann")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "ann@example.org")
    folder = tmp_path / "checkout"
    (folder / ".ci").mkdir(parents=True)
    shutil.copy(ROOT / ".ci/release", folder / ".ci/release")
    (folder / "pyproject.toml").write_text('[project]\nversion = "0.2.0"\n')
    (folder / "CHANGELOG.md").write_text("# Changelog\n\n## [0.2.0] - 2026-12-01\n")
    (folder / "Makefile").write_text(MAKEFILE)
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "all")
    return folder


def release(folder: Path, *version: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([folder / ".ci/release", *version], capture_output=True, check=False, text=True)


def test_what_was_tested_is_tagged(checkout: Path) -> None:
    done = release(checkout, "0.2.0")
    assert done.returncode == 0, done.stderr
    assert (checkout.parent / "made").read_text().split() == [
        "made",
        "test",
        "made",
        "check",
        "made",
        "docs",
        "made",
        "wheel",
    ]
    assert git(checkout, "tag", "--list", "--format=%(refname:short) %(objecttype)") == "v0.2.0 tag\n"
    again = release(checkout, "0.2.0")
    assert (again.returncode, again.stderr) == (1, "no release: there is a tag v0.2.0 already\n")


@pytest.mark.parametrize(
    ("version", "file", "text", "problem"),
    [
        ([], None, "", "say which version, as in .ci/release 0.2.0"),
        (["0.2"], None, "", "say which version, as in .ci/release 0.2.0"),
        (["0.3.0"], None, "", "pyproject.toml has another version than 0.3.0"),
        (
            ["0.2.0"],
            "CHANGELOG.md",
            "## [Unreleased] - 0.2.0\n",
            "CHANGELOG.md has no section '## [0.2.0] - YYYY-MM-DD'",
        ),
        (["0.2.0"], "new.py", "", "something is not committed: git status names it"),
    ],
)
def test_a_release_is_refused_and_nothing_is_made(
    checkout: Path, version: list[str], file: str | None, text: str, problem: str
) -> None:
    if file is not None:
        (checkout / file).write_text(text)
    done = release(checkout, *version)
    assert (done.returncode, done.stderr) == (1, f"no release: {problem}\n")
    assert not (checkout.parent / "made").exists()
    assert git(checkout, "tag", "--list") == ""


def test_nothing_is_tagged_where_a_target_fails(checkout: Path) -> None:
    (checkout / "Makefile").write_text(MAKEFILE + "\t@test $@ != docs\n")
    git(checkout, "commit", "--quiet", "--all", "--message", "docs fail")
    assert release(checkout, "0.2.0").returncode != 0
    assert git(checkout, "tag", "--list") == ""


def test_ci_and_a_release_run_targets_that_there_are() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for script in (".ci/run", ".ci/release"):
        lines = re.findall(r"^(?:[A-Z_]+=\S+ )?make (.+)$", (ROOT / script).read_text("utf-8"), re.MULTILINE)
        named = {word for line in lines for word in line.split() if word.islower()}
        assert named >= {"test", "check", "docs", "wheel"}
        assert named <= targets

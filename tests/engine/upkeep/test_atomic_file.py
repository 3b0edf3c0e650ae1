from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

import pytest

from millstream.engine.upkeep import TargetRefused
from millstream.engine.upkeep.atomic_file import created_whole

pytestmark = pytest.mark.anyio


def files(folder: Path) -> dict[str, str]:
    return {each.name: each.read_text("utf-8") for each in folder.iterdir()}


async def put(target: Path, text: str, like: Path | None = None) -> None:
    async with created_whole(target, like) as part:
        part.write_text(text, "utf-8")


async def test_a_file_has_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    async with created_whole(tmp_path / "new") as part:
        part.write_text("half", "utf-8")
        assert not (tmp_path / "new").exists()
        assert part.name.startswith(".new-")
        assert part.name.endswith(".partial")
        part.write_text("whole", "utf-8")
    assert files(tmp_path) == {"new": "whole"}


async def test_nothing_is_left_of_a_file_that_was_not_finished(tmp_path: Path) -> None:
    with suppress(ZeroDivisionError):
        async with created_whole(tmp_path / "new") as part:
            part.write_text("half", "utf-8")
            assert files(tmp_path) == {part.name: "half"}
            raise ZeroDivisionError
    assert files(tmp_path) == {}


@pytest.mark.parametrize("there", ["new", "new-wal", "new-journal"])
async def test_a_file_that_is_there_is_never_replaced(tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("old", "utf-8")
    with pytest.raises(TargetRefused, match=f"{there} can't be made: it is there already; name a file that is not"):
        await put(tmp_path / "new", "new")
    assert files(tmp_path) == {there: "old"}


async def test_a_link_that_leads_nowhere_is_there_too(tmp_path: Path) -> None:
    (tmp_path / "new").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TargetRefused, match="it is there already"):
        await put(tmp_path / "new", "new")
    assert [each.name for each in tmp_path.iterdir()] == ["new"]


@pytest.mark.parametrize("links", [True, False])
async def test_a_file_that_came_meanwhile_is_not_replaced_either(
    tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not links:
        monkeypatch.setattr(os, "link", no_links)

    async def put_while_another_is_faster() -> None:
        async with created_whole(tmp_path / "new") as part:
            part.write_text("new", "utf-8")
            (tmp_path / "new").write_text("theirs", "utf-8")

    with pytest.raises(TargetRefused, match="it is there already"):
        await put_while_another_is_faster()
    assert files(tmp_path) == {"new": "theirs"}


def no_links(*_: object) -> None:
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


async def test_a_file_system_without_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", no_links)
    await put(tmp_path / "new", "new")
    assert files(tmp_path) == {"new": "new"}


async def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(TargetRefused, match=r"there is no folder '.*nowhere'; make the folder first"):
        await put(tmp_path / "nowhere" / "new", "new")


@pytest.mark.skipif(os.name != "posix", reason="only POSIX has these permissions")
@pytest.mark.parametrize(("given", "mode"), [(0o640, 0o640), (0o444, 0o444), (None, 0o600)])
async def test_it_has_the_permissions_of_the_file_that_it_is_like(tmp_path: Path, given: int | None, mode: int) -> None:
    like = tmp_path / "like"
    if given is not None:
        like.touch()
        like.chmod(given)
    await put(tmp_path / "new", "new", None if given is None else like)
    assert (tmp_path / "new").stat().st_mode & 0o777 == mode

"""From a checkout or a commit to a folder from which that version of the engine is imported, whatever is installed."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
import tomllib
from pathlib import Path

from millstream.bench.job import BenchError

__all__ = ["place"]

_FOLDERS = ("engine", "handlers", "views")
_PROJECT = "pyproject.toml"
#: What `work` imports. A version from before that name gets it, too: its faces, which export what its own name holds.
_NAMESPACE = "millstream"


def place(version: str, site: Path) -> Path:
    """Put a version into ``site``, as a copy that later changes don't reach. Returns the folder of its engine.

    Args:
        version: a folder with a checkout, or what git calls a commit of the checkout in the current folder.
        site: a folder that is made, and is to stand in front of ``sys.path``.

    Raises:
        BenchError: it is neither, or it has no engine.
    """
    tree = Path(version)
    if not (tree / _PROJECT).is_file():
        tree = _checked_out(version, site.with_name(f"{site.name}-tree"))
    name = tomllib.loads((tree / _PROJECT).read_text("utf-8"))["project"]["name"]
    for namespace in {name, _NAMESPACE}:
        for folder in _FOLDERS:
            if not (tree / folder).is_dir():
                raise BenchError(f"{version!r} has no folder {folder!r}: name a checkout or a commit of this project")
            shutil.copytree(tree / folder, site / namespace / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return (site / _NAMESPACE / "engine").resolve()


def _checked_out(commit: str, folder: Path) -> Path:
    listed = subprocess.run(
        ["git", "archive", "--format=tar", f"{commit}^{{commit}}", _PROJECT, *_FOLDERS],
        capture_output=True,
        check=False,
    )
    if listed.returncode:
        why = listed.stderr.decode(errors="replace").strip()
        raise BenchError(f"{commit!r} is neither a folder with a {_PROJECT} nor a commit: {why}")
    folder.mkdir(parents=True)
    with tarfile.open(fileobj=io.BytesIO(listed.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder

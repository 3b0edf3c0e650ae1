"""What a user gets: run by a Python in which the wheel is installed, and nothing of a checkout is to be found.

Usage: python -I try_wheel.py README.md bank.py. Here: that all faces are there and come from the wheel, that they say
that they are typed, and that an example, an application and the program do what the pages say. It uses no pytest.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

FACES = (
    "millstream.engine",
    "millstream.engine.client",
    "millstream.engine.edge",
    "millstream.engine.observers",
    "millstream.engine.server",
    "millstream.engine.telemetry",
    "millstream.engine.testing",
    "millstream.engine.testing.plugin",
    "millstream.engine.upkeep",
    "millstream.engine.web",
    "millstream.handlers",
    "millstream.handlers.calendar",
    "millstream.views",
    "millstream.bench",
)


def see_faces() -> None:
    """Import what users import, all of it, and see where it lies."""
    site = Path(sysconfig.get_path("purelib")).resolve()
    for name in FACES:
        module = importlib.import_module(name)
        for exported in module.__all__:
            assert getattr(module, exported) is not None, f"{name}.{exported}"
        assert Path(str(module.__file__)).resolve().is_relative_to(site), f"{name} comes from {module.__file__}"
    for room in ("bench", "engine", "handlers", "program", "views"):
        assert (site / "millstream" / room / "py.typed").is_file(), f"millstream.{room} says nothing of types"
    for bare in ("bench", "engine", "handlers", "program", "views", "tests", "examples"):
        assert not (site / bare).exists(), f"{bare} would lie bare among all packages of a user"


def see_console() -> None:
    """The page for operators is files beside the code."""
    console = importlib.import_module("millstream.engine.web.console_files")
    for name in console.FILES.values():
        assert console.console_response(name).body, f"the wheel has no {name}"


def see_readme(readme: str) -> None:
    """Run the example of the first page, which must print what stands below it."""
    found = re.search(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    assert found, "README has no example with its output"
    Path("example.py").write_text(found[1], "utf-8")
    environment = {**os.environ, "NO_COLOR": "1"}
    done = subprocess.run([sys.executable, "example.py"], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if not re.search(r"\[(info|warning) ", line)]
    assert lines == found[2].splitlines(), lines


def see_program(bank: str) -> None:
    """Use the program on an application and its log."""
    Path("bank.py").write_text(bank, "utf-8")
    program = Path(sys.executable).parent / "millstream"

    def output_of(*arguments: str) -> str:
        done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        return done.stdout

    assert output_of("--version").split() == ["millstream", importlib.metadata.version("millstream")]
    assert "Balances" in output_of("describe", "bank:app")
    assert "2" in output_of("log", "verify", "shows.db")


def main() -> None:
    readme, bank = (Path(argument).read_text("utf-8") for argument in sys.argv[1:3])
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        see_faces()
        see_console()
        see_readme(readme)
        see_program(bank)
        os.chdir("/")
    print(f"the wheel of millstream {importlib.metadata.version('millstream')} works where it is installed")


if __name__ == "__main__":
    main()

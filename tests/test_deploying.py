"""What the pages on deploying say, tried as far as can be on one machine."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from examples.bank import BalanceOf, Deposit, Open
from millstream.engine import Receipt
from millstream.engine.client import Client
from millstream.engine.stores.postgres.settings import settings_of
from tests.engine.cli.test_serving import running
from tests.test_docs import check_command
from tests.test_tidy import ROOT

DEPLOYING = ROOT / "docs" / "how-to" / "deploying"
PROGRAM = "/srv/shop/.venv/bin/millstream"


def lines_of(unit: str, name: str) -> list[str]:
    text = (DEPLOYING / unit).read_text("utf-8")
    return re.findall(rf"^{name}=(.*)$", text, re.MULTILINE)


def test_the_units_are_understood_by_systemd_and_the_program(tmp_path: Path) -> None:
    (command,) = lines_of("millstream.service", "ExecStart")
    assert command.startswith(PROGRAM)
    check_command(f"millstream {command.removeprefix(PROGRAM)}")
    if (analyze := shutil.which("systemd-analyze")) is None:
        pytest.skip("no systemd here: the units are read, and not verified by it")
    for unit in DEPLOYING.glob("millstream*"):
        (tmp_path / unit.name).write_text(unit.read_text("utf-8").replace(PROGRAM, "/bin/true"))
    units = [str(tmp_path / name) for name in ("millstream.service", "millstream-backup.timer")]
    done = subprocess.run([analyze, "verify", *units], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_services_of_the_compose_file_are_started_with_options_that_there_are() -> None:
    """Held to the program and to the store; no engine of containers was there to run it."""
    yaml: Any = pytest.importorskip("yaml")
    found = yaml.safe_load((DEPLOYING / "compose.yaml").read_text("utf-8"))
    assert found.keys() == {"services", "volumes", "secrets"}
    for name in ("one", "two"):
        service = found["services"][name]
        check_command(shlex.join(["millstream", *service["command"]]))
        assert service["command"][service["command"].index("--advertise") + 1] == f"tcp://{name}:7411"
        assert (DEPLOYING / service["build"]["dockerfile"]).is_file()
        assert set(service["secrets"]) <= found["secrets"].keys()
        settings = settings_of(service["environment"]["MILLSTREAM_LOG"])
        assert settings.name == "postgresql://db:5432/shop?schema=shop"
        assert service["depends_on"].keys() <= found["services"].keys()
    assert found["services"]["db"]["volumes"][0].partition(":")[0] in found["volumes"]


def test_the_image_starts_the_program_with_options_that_it_has() -> None:
    text = (DEPLOYING / "Containerfile").read_text("utf-8")
    (command,) = re.findall(r"^CMD (\[.*\])$", text, re.MULTILINE)
    check_command(shlex.join(["millstream", *eval(command)]))
    (extras,) = re.findall(r"\.whl\)\[([\w,]+)\]", text)
    known = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    assert set(extras.split(",")) <= known.keys()
    assert re.search(r"^USER 10001$", text, re.MULTILINE)
    assert re.search(r"^VOLUME /data$", text, re.MULTILINE)


def test_a_backup_of_each_day_of_the_week_replaces_that_of_a_week_ago_once_it_is_whole(tmp_path: Path) -> None:
    state, backups, program = tmp_path / "state", tmp_path / "backups", tmp_path / "millstream"
    for folder in (state, backups):
        folder.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m millstream.engine.cli "$@"\n')
    program.chmod(0o700)
    (line,) = lines_of("millstream-backup.service", "ExecStart")
    script = shlex.split(line)[2].replace("$$", "$").replace("%%", "%")
    script = script.replace("/var/lib/millstream-backups", str(backups)).replace("/var/lib/millstream", str(state))
    script = script.replace(PROGRAM, str(program))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def back_up() -> int:
        return subprocess.run(["sh", "-c", script], env=environment, capture_output=True, check=False).returncode

    with running(
        "serve", "examples.bank:app", "--log", str(state / "shop.db"), "--listen", f"unix://{tmp_path}/s", cwd=tmp_path
    ):
        assert (back_up(), back_up()) == (0, 0)
        (made,) = backups.glob("*.db")
        assert re.fullmatch(r"[1-7]\.db", made.name)
    kept = made.read_bytes()
    shutil.rmtree(state)
    assert back_up() != 0
    assert made.read_bytes() == kept


@pytest.fixture
def anyio_backend() -> str:
    """One loop is enough: processes are what is tried."""
    return "asyncio"


@pytest.mark.anyio
async def test_a_new_version_takes_over_under_load_and_each_command_happens_once(tmp_path: Path) -> None:
    addresses = [f"unix://{tmp_path}/{name}.sock" for name in "ab"]
    options = ("serve", "examples.bank:app", "--log", str(tmp_path / "bank.db"), "--wait-for-lock", "60")
    command = [sys.executable, "-m", "millstream.engine.cli", *options, "--listen", addresses[1]]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    receipts: list[Receipt[Any]] = []
    half = anyio.Event()
    with running(*options, "--listen", addresses[0], cwd=tmp_path) as old:
        async with Client(addresses, name_commands=True) as client:
            await client.execute(Open("ann"))
            with subprocess.Popen(
                command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=tmp_path, env=environment
            ) as new:
                assert new.stderr is not None
                assert "waits_for_lock" in await anyio.to_thread.run_sync(new.stderr.readline)

                async def send(many: int) -> None:
                    for _ in range(many):
                        receipts.append(await client.execute(Deposit("ann", 1)))
                        if len(receipts) == 500:
                            half.set()

                with anyio.fail_after(60):
                    async with anyio.create_task_group() as tasks:
                        for _ in range(20):
                            tasks.start_soon(send, 50)
                        await half.wait()
                        old.child.send_signal(signal.SIGTERM)
                balance = await client.ask(BalanceOf("ann"), after=receipts[-1])
                new.terminate()
                new.stderr.read()
                assert new.wait(30) == 0
        old.child.communicate(timeout=30)
    assert balance == len(receipts) == len({receipt.position for receipt in receipts}) == 1_000


# The newcomer's path.

PAGE = ROOT / "docs" / "tutorial" / "first-page.md"


@contextmanager
def free_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        yield bound.getsockname()[1]


def test_ten_commands_lead_to_a_live_page(tmp_path: Path) -> None:
    (block,) = re.findall(r"```console\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    commands = [line.removeprefix("$ ") for line in block.splitlines()]
    assert len(commands) <= 10
    assert commands[2].startswith("pip install '.[")
    extras = re.findall(r"\[([\w,]+)\]", commands[2])[0].split(",")
    known = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    assert set(extras) <= known.keys()
    programs = tmp_path / "programs"  # the environment that the first three commands make is the one that is here
    programs.mkdir()
    for name, arguments in (("millstream", "-m millstream.engine.cli"), ("python", "")):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {arguments} "$@"\n')
        program.chmod(0o700)
    if shutil.which("curl") is None:
        pytest.skip("no curl here")
    with free_port() as port:
        pass
    script = "\n".join(
        ["set -e", *commands[3:], "curl -s http://127.0.0.1:7480/console | head -1", "kill $!", "wait $! || true"]
    )
    script = script.replace("7480", str(port)).replace("curl ", "curl -sS --fail ")
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    environment.pop("PYTEST_XDIST_WORKER", None)
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
    assert done.stdout.endswith("2<!doctype html>\n")

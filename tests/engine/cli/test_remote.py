from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from examples.bank import app as bank
from millstream.engine import Engine
from millstream.engine.server import Tokens
from tests.engine.cli.running import Millstream, program, served
from tests.shop import shop

#: Stands for where the server listens.
ADDRESS = "its address"
WRITER, READER = "a token for writing", "a token for reading"


@pytest.fixture
def millstream(capsysbinary: pytest.CaptureFixture[bytes]) -> Millstream:
    return program(capsysbinary)


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """The bank behind the socket that MILLSTREAM_ADDRESS names; ann has 100."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MILLSTREAM_ADDRESS", f"unix://{tmp_path}/bank.sock")
    monkeypatch.delenv("MILLSTREAM_TOKEN", raising=False)
    with served(bank, tmp_path / "bank.db", tmp_path / "bank.sock") as running:
        yield running


@pytest.mark.usefixtures("engine")
class TestABankThatRuns:
    def test_a_command_shows_its_receipt(self, millstream: Millstream) -> None:
        ran = millstream("execute", "Open", "account=ann")
        assert (ran.code, ran.err) == (0, "")
        assert ran.out.startswith("done\n")
        assert ran.figures == {"position": "1", "events": "1", "version": "1"}
        ran = millstream("execute", '{"type":"Deposit","account":"ann","amount":5}', "--json")
        assert ran.values == {
            "commit": 2,
            "position": 2,
            "events": 1,
            "command_id": None,
            "version": 2,
            "repeated": False,
            "parked": 0,
            "answer": None,
        }

    def test_a_command_with_an_id_is_executed_once_and_the_program_says_so(self, millstream: Millstream) -> None:
        millstream("execute", "Open", "account=ann")
        deposit = ("execute", "Deposit", "account=ann", "amount:=5", "--id", "d-1", "--actor", "bob", "--timeout", "10")
        assert millstream(*deposit).out.startswith("done\n")
        assert millstream(*deposit).out.startswith("it was executed before: nothing happened now\n")
        assert millstream("ask", "BalanceOf", "account=ann").out == "5\n"

    def test_names_of_messages_and_fields_are_offered_to_the_shell(
        self, millstream: Millstream, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def offered(*words: str) -> list[str]:
            monkeypatch.setenv("_MILLSTREAM_COMPLETE", "complete_bash")
            monkeypatch.setenv("COMP_WORDS", " ".join(["millstream", *words]))
            monkeypatch.setenv("COMP_CWORD", str(len(words)))
            return millstream().out.split()

        assert offered("execute", "") == ["Deposit", "Open", "Transfer"]
        assert offered("execute", "De") == ["Deposit"]
        assert offered("ask", "") == ["BalanceOf"]
        assert offered("execute", "Deposit", "") == ["account=", "amount:="]
        assert offered("execute", "Deposit", "account=ann", "") == ["amount:="]
        assert offered("execute", "Nothing", "") == []
        monkeypatch.setenv("MILLSTREAM_ADDRESS", "unix://nobody.sock")
        assert offered("execute", "") == []

    def test_an_error_is_json_for_programs_with_all_that_it_holds(self, millstream: Millstream) -> None:
        ran = millstream("execute", "Deposit", "account=bob", "amount:=1", "--json")
        assert (ran.code, ran.err) == (6, "millstream: no_such_account: no account 'bob'\n")
        assert ran.values["error"] == "Rejected"
        assert (ran.values["code"], ran.values["message"], ran.values["details"]) == (
            "no_such_account",
            "no account 'bob'",
            {},
        )
        ran = millstream("ask", "BalancOf", "account=ann", "--json")
        assert (ran.values["error"], ran.values["message_type"]) == ("UnknownMessage", "BalancOf")
        assert "has no query 'BalancOf', but 'BalanceOf'" in ran.err

    def test_what_is_kept_with_a_command_is_given_as_options(self, millstream: Millstream, tmp_path: Path) -> None:
        given = ("--actor", "ann", "--correlation", "c1", "--causation", "m1", "--extra", "ip=::1", "--extra", "q=a=b")
        assert millstream("execute", "Open", "account=ann", *given).code == 0
        (shown,) = millstream("log", "show", str(tmp_path / "bank.db"), "--json").lines
        assert (shown["actor"], shown["correlation"], shown["causation"]) == ("ann", "c1", "m1")
        assert shown["extra"] == {"ip": "::1", "q": "a=b"}
        for wrong in (("--extra", "ip"), ("--extra", "=x"), ("--extra", "a=1", "--extra", "a=2")):
            ran = millstream("execute", "Open", "account=bob", *wrong)
            assert (ran.code, "--extra is NAME=TEXT" in " ".join(ran.err.split())) == (2, True)

    def test_a_rejection_is_exit_code_6_and_one_line(self, millstream: Millstream) -> None:
        ran = millstream("execute", "Deposit", "account=bob", "amount:=1")
        assert (ran.code, ran.out, ran.err) == (6, "", "millstream: no_such_account: no account 'bob'\n")
        millstream("execute", "Open", "account=ann")
        ran = millstream("execute", "Deposit", "account=ann", "amount:=1", "--expect-version", "7")
        assert (ran.code, "is at version 1, not at 7" in ran.err) == (6, True)

    @pytest.mark.parametrize(
        ("words", "problem"),
        [
            (
                ("Deposit", "account=ann", "amount=100"),
                "Deposit is not valid: Expected `int`, got `str` - at `$.amount`",
            ),
            (("Deposit", "account=ann", "amount:=0"), "Deposit is not valid: Expected `int` >= 1 - at `$.amount`"),
            (("Steal",), "application 'bank' has no command 'Steal'"),
            (("Deposit", "amount"), "a field is written name=text or name:=JSON, not 'amount'"),
        ],
    )
    def test_a_command_that_is_none_is_exit_code_2(
        self, millstream: Millstream, words: tuple[str, ...], problem: str
    ) -> None:
        ran = millstream("execute", *words)
        assert (ran.code, ran.out) == (2, "")
        assert problem in ran.err

    def test_commands_are_read_from_standard_input_one_a_line(
        self, millstream: Millstream, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lines = [
            b'{"type":"Open","account":"ann"}',
            b"",
            b'{"type":"Deposit","account":"bob","amount":1}',
            b"nonsense \xff",
            b'{"type":"Deposit","account":"ann","amount":7}',
        ]
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\n".join(lines))))
        ran = millstream("execute", "-")
        assert ran.code == 6
        assert [line.get("error") or line["position"] for line in ran.lines] == [1, "Rejected", "InvalidMessage", 2]
        assert ran.lines[1]["line"] == 3

    def test_an_answer_is_shown_as_it_is_and_to_programs_with_its_position(self, millstream: Millstream) -> None:
        millstream("execute", "Open", "account=ann")
        assert millstream("ask", "BalanceOf", "account=ann", "--after", "1").out == "0\n"
        assert millstream("ask", "BalanceOf", "account=bob").out == "null\n"
        assert millstream("ask", "BalanceOf", "account=ann", "--json").values == {"answer": 0, "position": 1}

    @pytest.mark.parametrize(
        "words", [("ask", "BalanceOf", "account=ann"), ("watch", "BalanceOf", "account=ann"), ("log", "tail", ADDRESS)]
    )
    def test_a_position_that_the_log_has_not_come_to_is_exit_code_2(
        self, millstream: Millstream, words: tuple[str, ...]
    ) -> None:
        words = tuple(os.environ["MILLSTREAM_ADDRESS"] if word == ADDRESS else word for word in words)
        ran = millstream(*words, "--after", "9")
        assert (ran.code, "position 9 is above the head of the log, which is at 0" in ran.err) == (2, True)

    def test_a_watch_shows_answers_until_its_limit(self, millstream: Millstream) -> None:
        millstream("execute", "Open", "account=ann")
        ran = millstream("watch", "BalanceOf", "account=ann", "--limit", "1")
        assert (ran.code, ran.out) == (0, "at 1\n0\n")
        ran = millstream("watch", "BalanceOf", "account=ann", "--limit", "1", "--json", "--every")
        assert ran.values == {"answer": 0, "position": 1}

    def test_the_description_names_commands_queries_and_events(self, millstream: Millstream) -> None:
        rows = [" ".join(line.split()) for line in millstream("describe").out.splitlines()]
        assert rows == [
            "kind name fields answer",
            "command Deposit account: string, amount: integer",
            "command Open account: string",
            "command Transfer account: string, to: string, amount: integer",
            "query BalanceOf account: string integer | null",
            "event Opened account: string",
            "event Deposited account: string, amount: integer",
            "event Withdrawn account: string, amount: integer",
        ]
        assert len(millstream("describe", "Open").out.splitlines()) == 2
        assert "Open, Transfer, BalanceOf" in millstream("describe", "Steal").err
        assert millstream("describe", "--json").values["info"]["title"] == "bank"

    def test_an_application_is_described_by_what_it_does_and_no_server_is_asked(self, millstream: Millstream) -> None:
        ran = millstream("describe", "examples.bank:app", "--address", "unix://nobody.sock")
        rows = [" ".join(line.split()) for line in ran.out.splitlines()]
        assert rows[0] == "kind message by may give"
        assert "command Transfer handles Bank.transfer Withdrawn, Deposited" in rows
        assert rows[-1] == "query BalanceOf answers Balances"
        values = millstream("describe", "examples.bank:app", "--json").values
        assert values["app"] == "bank"
        assert {"kind": "event", "message": "Opened", "verb": "applies", "by": "Balances", "gives": []} in values[
            "steps"
        ]
        drawn = millstream("describe", "examples.bank:app", "--mermaid").out.splitlines()
        assert (drawn[0], len(drawn)) == ("flowchart LR", 20)

    def test_a_drawing_is_of_an_application_and_is_no_json(self, millstream: Millstream) -> None:
        assert millstream("describe", "--mermaid").code == 2
        assert millstream("describe", "examples.bank:app", "--json", "--mermaid").code == 2

    def test_the_figures_are_a_line_each_and_a_table_of_views(self, millstream: Millstream) -> None:
        millstream("execute", "Open", "account=ann")
        ran = millstream("stats")
        assert ran.figures["writer commands"] == "1"
        assert "Balances" in ran.out
        assert millstream("stats", "--json").values["views"]["Balances"]["position"] == 1

    def test_a_server_that_is_well_is_ready(self, millstream: Millstream) -> None:
        ran = millstream("health")
        assert (ran.code, ran.figures["ready"], ran.figures["role"]) == (0, "true", "writer")
        assert millstream("health", "--json").values["live"] is True

    def test_the_log_is_shown_as_it_grows_from_a_server_and_from_its_file(self, millstream: Millstream) -> None:
        for account in ("ann", "bob"):
            millstream("execute", "Open", f"account={account}")
        address = f"unix://{Path.cwd()}/bank.sock"
        for place in (address, "bank.db"):
            ran = millstream("log", "tail", place, "--limit", "2", "--json")
            assert [(line["position"], line["key"]) for line in ran.lines] == [(1, "ann"), (2, "bob")]
            ran = millstream("log", "tail", place, "--after", "0", "--limit", "1", "--key", "bob", "--type", "Opened")
            assert ran.out.startswith("2  2  20")
            assert ran.out.endswith('Opened  bob    {"type":"Opened","account":"bob"}\n')


def test_a_server_that_is_not_there_is_exit_code_7(millstream: Millstream, tmp_path: Path) -> None:
    ran = millstream("health", "--address", f"unix://{tmp_path}/nobody.sock")
    assert (ran.code, ran.out) == (7, "")
    assert "no connection to unix://" in ran.err


def test_a_wrong_option_is_exit_code_2(millstream: Millstream, tmp_path: Path) -> None:
    for options in (("--address", "nowhere"), ("--token-file", "nothing"), ("--authorities", "nothing")):
        ran = millstream("health", *options)
        assert (ran.code, ran.out) == (2, "")


def test_tokens_come_from_a_file_or_the_environment_and_are_never_shown(
    millstream: Millstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text(f"{READER}\n")
    monkeypatch.setenv("MILLSTREAM_ADDRESS", f"unix://{tmp_path}/bank.sock")
    tokens = Tokens([f"writer:{WRITER}", f"reader:{READER}"])
    with served(bank, tmp_path / "bank.db", tmp_path / "bank.sock", tokens):
        ran = millstream("execute", "Open", "account=ann")
        assert (ran.code, "not authenticated" in ran.err) == (6, True)
        monkeypatch.setenv("MILLSTREAM_TOKEN", "something else entirely")
        ran = millstream("execute", "Open", "account=ann")
        assert (ran.code, "something" in ran.err) == (6, False)
        monkeypatch.setenv("MILLSTREAM_TOKEN", WRITER)
        assert millstream("execute", "Open", "account=ann").code == 0
        ran = millstream("execute", "Open", "account=bob", "--token-file", str(tmp_path / "token"))
        assert (ran.code, "role 'reader' may not call 'execute'" in ran.err) == (6, True)
        assert millstream("ask", "BalanceOf", "account=ann", "--token-file", str(tmp_path / "token")).out == "0\n"


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        (["Everything"], "a  2\nb  3\n"),
        (["Notes"], "[]\n"),
        (["StockOf", "item=a"], "2\n"),
    ],
)
def test_answers_of_any_shape_are_shown(
    query: list[str], shown: str, millstream: Millstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MILLSTREAM_ADDRESS", f"unix://{tmp_path}/shop.sock")
    with served(shop, tmp_path / "shop.db", tmp_path / "shop.sock"):
        millstream("execute", "Add", "item=a", "count:=2")
        receipt: Any = millstream("execute", "Add", "item=b", "count:=3", "--json").values
        ran = millstream("ask", *query, "--after", str(receipt["position"]))
        assert (ran.code, "".join(line.rstrip() + "\n" for line in ran.out.splitlines())) == (0, shown)

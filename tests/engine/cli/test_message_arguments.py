from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.engine import InvalidMessage
from millstream.engine.cli.message_arguments import message_in


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["Refresh"], {"type": "Refresh"}),
        (["Open", "account=ann"], {"type": "Open", "account": "ann"}),
        (["Deposit", "account=ann", "amount:=100"], {"type": "Deposit", "account": "ann", "amount": 100}),
        (["Deposit", "account=", "amount:=-1.5"], {"type": "Deposit", "account": "", "amount": -1.5}),
        (["Note", "text=a=b:=c"], {"type": "Note", "text": "a=b:=c"}),
        (["Note", "text=two\nlines and ü"], {"type": "Note", "text": "two\nlines and ü"}),
        (["Tag", 'tags:=["a", null]', "deep:={}"], {"type": "Tag", "tags": ["a", None], "deep": {}}),
        (['{"type": "Deposit", "account": "ann"}'], {"type": "Deposit", "account": "ann"}),
        ([' {"type":"Open"} '], {"type": "Open"}),
    ],
)
def test_a_message_is_written_by_its_name_and_fields_or_as_json(words: list[str], message: object) -> None:
    assert json.loads(message_in(words)) == message


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["Deposit", "amount"], "a field is written name=text or name:=JSON, not 'amount'"),
        (["Deposit", "=3"], "a field is written name=text or name:=JSON, not '=3'"),
        (["Deposit", "3d=3"], "a field is written name=text or name:=JSON, not '3d=3'"),
        (["Deposit", "account=ann", "account=bob"], "field 'account' is given twice"),
        (["Deposit", "type=Open"], "field 'type' is given twice"),
        (["Deposit", "account:=ann"], "what stands behind account:= is no JSON"),
        (["Deposit", "account:=ann"], "write account=ann if it is text"),
        (["Deposit", "deep:=" + "[" * 10_000], "what stands behind deep:= is no JSON"),
        (["Deposit", "account=\udcff"], "it is no text in UTF-8"),
        (['{"type": "Deposit"'], "it is no object in JSON"),
        (['{"type": "\udcff"}'], "it is no object in JSON"),
        (['{"type": "Deposit"}', "amount:=3"], "a message in JSON is one word: nothing follows it"),
    ],
)
def test_what_is_no_message_is_refused_and_the_error_says_how_to_write_it(words: list[str], problem: str) -> None:
    with pytest.raises(InvalidMessage) as refused:
        message_in(words)
    assert problem in str(refused.value)


@given(st.text())
def test_whatever_stands_behind_the_equals_sign_is_text(text: str) -> None:
    written = text.encode("utf-8", "replace").decode()
    assert json.loads(message_in(["Note", f"text={written}"])) == {"type": "Note", "text": written}

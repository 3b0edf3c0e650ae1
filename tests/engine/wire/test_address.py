from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.engine import DefinitionError
from millstream.engine.wire import Address, parse_address

#: One table, run both ways.
ADDRESSES = (
    ("tcp://127.0.0.1:7411", Address("tcp", "127.0.0.1", 7411)),
    ("tcp://localhost:0", Address("tcp", "localhost", 0)),
    ("tcp://bank.example.org:65535", Address("tcp", "bank.example.org", 65535)),
    ("tcp://[::1]:7411", Address("tcp", "::1", 7411)),
    ("tcp://[fe80::1%eth0]:7411", Address("tcp", "fe80::1%eth0", 7411)),
    ("tls://0.0.0.0:443", Address("tls", "0.0.0.0", 443)),
    ("tls://[::]:443", Address("tls", "::", 443)),
    ("unix:///run/bank.sock", Address("unix", path="/run/bank.sock")),
    ("unix://bank.sock", Address("unix", path="bank.sock")),
    ("unix:///tmp/a b:c\n.sock", Address("unix", path="/tmp/a b:c\n.sock")),
)


@pytest.mark.parametrize(("text", "address"), ADDRESSES)
def test_an_address_is_read_from_its_text_and_is_that_text_again(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "127.0.0.1:7411",
        "tcp:127.0.0.1:7411",
        "http://127.0.0.1:7411",
        "TCP://127.0.0.1:7411",
        "tcp://127.0.0.1",
        "tcp://127.0.0.1:",
        "tcp://127.0.0.1:65536",
        "tcp://127.0.0.1:-1",
        "tcp://127.0.0.1:\N{ARABIC-INDIC DIGIT SEVEN}",
        "tcp://127.0.0.1:7411/",
        "tcp://127.0.0.1:7411 ",
        "tcp://127.0.0.1:7411\n",
        "tcp://ann@127.0.0.1:7411",
        "tcp://::1:7411",
        "tcp://[::1:7411",
        "tcp://[]:7411",
        "tcp://:7411",
        "unix://",
        "unix://a\0b",
    ],
)
def test_what_is_no_address_is_refused_and_named(text: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        parse_address(text)
    assert str(refused.value) == f"an address is tcp://HOST:PORT, tls://HOST:PORT or unix://PATH, not {text!r}"


hosts = st.one_of(st.ip_addresses().map(str), st.from_regex(r"[a-z0-9.-]{1,20}", fullmatch=True))
addresses = st.one_of(
    st.builds(Address, st.sampled_from(("tcp", "tls")), hosts, st.integers(0, 65_535), st.just("")),
    st.builds(lambda path: Address("unix", path=path), st.text(st.characters(exclude_characters="\0"), min_size=1)),
)


@given(addresses)
def test_any_address_can_be_read_from_its_text(address: Address) -> None:
    assert parse_address(str(address)) == address


@given(st.text())
def test_any_text_is_an_address_or_is_refused(text: str) -> None:
    try:
        address = parse_address(text)
    except DefinitionError:
        return
    assert parse_address(str(address)) == address

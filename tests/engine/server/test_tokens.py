from __future__ import annotations

import hmac
from pathlib import Path
from typing import Any

import pytest

from millstream.engine import DefinitionError
from millstream.engine.server import Role, Tokens
from millstream.engine.server.tokens import MAY
from millstream.engine.wire.requests import params_of
from tests.desk import desk
from tests.engine.server.caller import ADD, STOCK, calling, one_process, request, served
from tests.shop import shop

READER, WRITER = "reader-0123456789", "writer-0123456789"
LINES = [f"reader:{READER}", "", "# a comment", f"  writer:{WRITER}  "]


def test_a_token_stands_for_its_role_and_no_other_text_does() -> None:
    tokens = Tokens(LINES)
    assert (tokens.role_of(READER), tokens.role_of(WRITER)) == (Role.READER, Role.WRITER)
    for other in ("", READER[:-1], READER + "x", READER.upper(), f"reader:{READER}", "# a comment", "\ud800", "ä" * 20):
        assert tokens.role_of(other) is None
    assert Tokens(["writer:with:colons:and ümlauts"]).role_of("with:colons:and ümlauts") is Role.WRITER


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (["0123456789abcdef"], "line 1 of the tokens is not reader:TOKEN or writer:TOKEN"),
        (["# one", "admin:0123456789abcdef"], "line 2 of the tokens is not reader:TOKEN or writer:TOKEN"),
        (["Reader:0123456789abcdef"], "line 1 of the tokens is not reader:TOKEN or writer:TOKEN"),
        (["writer:0123456789abcde"], "the token in line 1 has less than 16 characters"),
        (["writer:"], "the token in line 1 has less than 16 characters"),
        ([], "the tokens hold none: give one, or no tokens at all"),
        (["", "# nothing"], "the tokens hold none: give one, or no tokens at all"),
    ],
)
def test_lines_that_are_no_tokens_are_refused_without_being_shown(lines: list[str], problem: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        Tokens(lines)
    assert str(refused.value) == problem
    traceback = refused.tb
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
        assert "0123456789abcde" not in str(traceback.tb_frame.f_locals)


def test_tokens_are_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text("\n".join(LINES), "utf-8")
    assert Tokens.from_file(path).role_of(READER) is Role.READER
    with pytest.raises(DefinitionError, match=r"the tokens can't be read from '.*/none': No such file or directory"):
        Tokens.from_file(tmp_path / "none")
    path.write_bytes(b"writer:0123456789abcdef\xff")
    with pytest.raises(DefinitionError, match=r"the tokens can't be read from '.*/tokens': it is not UTF-8") as refused:
        Tokens.from_file(path)
    assert refused.value.__suppress_context__  # which would show what was read


def test_tokens_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MILLSTREAM_TOKENS", raising=False)
    assert Tokens.from_environment() is None
    monkeypatch.setenv("MILLSTREAM_TOKENS", f"reader:{READER} writer:{WRITER}")
    found = Tokens.from_environment()
    assert found is not None
    assert found.role_of(WRITER) is Role.WRITER
    monkeypatch.setenv("OTHER", "")
    with pytest.raises(DefinitionError, match="the tokens hold none"):  # set and empty is a mistake, not a wish
        Tokens.from_environment("OTHER")


def test_every_known_token_is_compared_in_constant_time_whatever_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[int, int]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return hmac.compare_digest(one, other)

    monkeypatch.setattr("millstream.engine.server.tokens.compare_digest", compare)
    tokens = Tokens(LINES)
    for given in (READER, WRITER, "neither", ""):
        compared.clear()
        tokens.role_of(given)
        assert compared == [(32, 32), (32, 32)]


def test_tokens_show_in_no_look_at_them() -> None:
    tokens = Tokens(LINES)
    assert repr(tokens) == "<Tokens: 2>"
    assert READER not in str(vars(tokens))


def test_each_role_may_call_methods_that_there_are_and_a_writer_all() -> None:
    assert MAY[Role.WRITER] == set(params_of(shop))
    assert MAY[Role.WRITER] - MAY[Role.READER] == {"execute", "execute_many", "settle"}
    assert MAY[None] == {"authenticate", "health"}


# Behind a server.


@pytest.mark.anyio
async def test_without_a_token_only_health_is_told() -> None:
    async with served(tokens=Tokens(LINES)) as server, calling(server) as caller:
        assert (await caller.call("health"))["live"] is True
        for method, params in (("execute", {"command": ADD}), ("ask", {"query": STOCK}), ("describe", None)):
            error = await caller.call(method, params)
            assert (error["code"], error["data"]) == (
                1007,
                {"error": "NotAuthenticated", "problem": "no token was given"},
            )


@pytest.mark.anyio
@pytest.mark.parametrize(
    "line",
    [
        request("execute", {"command": {"type": "Add"}}),
        request("execute", {"command": {"type": "Nonsense"}}),
        request("execute", {"command": {**ADD, "count": "many"}}),
        request("execute", {"command": {**ADD, "more": 1}}),
        request("execute"),
        request("ask", {"query": {"type": "Nonsense"}}),
        request("ask", {"query": STOCK, "after": -1}),
        request("watch", {"query": {}}),
        request("nonsense"),
    ],
)
async def test_without_a_token_no_error_tells_of_the_applications_messages(line: bytes) -> None:
    async with served(tokens=Tokens(LINES)) as server, calling(server) as caller:
        for sent in (line, b"[" + line.strip() + b"]\n"):
            await caller.send(sent)
            told = await caller.reply()
            (reply,) = told if isinstance(told, list) else [told]
            assert (reply["id"], reply["error"]["data"]) == (
                1,
                {"error": "NotAuthenticated", "problem": "no token was given"},
            )
        await caller.call("authenticate", {"token": WRITER})
        await caller.send(line)
        assert (await caller.reply())["error"]["code"] != 1007


@one_process
@pytest.mark.anyio
async def test_without_a_token_health_names_no_view() -> None:
    async with served(desk("stop"), tokens=Tokens(LINES)) as server, calling(server) as caller:
        async with calling(server) as writer:
            await writer.call("authenticate", {"token": WRITER})
            await writer.call("execute", {"command": {"type": "Say", "what": "bad"}})
            await writer.call("ask", {"query": {"type": "Seen"}, "after": 1})
            assert (await writer.call("health"))["reasons"] == ["view Shelves is faulted"]
        assert (await caller.call("health"))["reasons"] == ["a view is faulted"]


@pytest.mark.anyio
async def test_what_follows_a_token_in_the_same_batch_is_read_as_what_it_is() -> None:
    async with served(tokens=Tokens(LINES)) as server, calling(server) as caller:
        some = [
            request("authenticate", {"token": READER}, 1),
            request("ask", {"query": STOCK}, 2),
            request("ask", {}, 3),
        ]
        await caller.send(b"[" + b",".join(each.strip() for each in some) + b"]\n")
        told = {each["id"]: each for each in await caller.reply()}
        assert (told[1]["result"], told[2]["result"]) == ({"role": "reader"}, {"answer": 0, "position": 0})
        assert told[3]["error"]["code"] == -32602


@pytest.mark.anyio
async def test_a_reader_may_ask_and_not_change_and_a_writer_may_both() -> None:
    async with served(tokens=Tokens(LINES)) as server, calling(server) as reader, calling(server) as writer:
        assert await reader.call("authenticate", {"token": READER}) == {"role": "reader"}
        assert await writer.call("authenticate", {"token": WRITER}) == {"role": "writer"}
        assert await reader.call("execute", {"command": ADD}) == {
            "code": 1008,
            "message": "role 'reader' may not call 'execute': use a token of a role that may",
            "data": {"error": "NotPermitted", "method": "execute", "role": "reader"},
        }
        assert (await writer.call("execute", {"command": ADD}))["position"] == 1
        assert await reader.call("ask", {"query": STOCK, "after": 1}) == {"answer": 1, "position": 1}
        assert await reader.call("follow", {"after": 1}) == {"watch": 1}
        assert await reader.call("authenticate", {"token": WRITER}) == {"role": "writer"}


@pytest.mark.anyio
async def test_a_wrong_token_is_told_and_ends_the_connection_after_one_guess() -> None:
    async with served(tokens=Tokens(LINES)) as server, calling(server) as caller:
        await caller.send(
            request("authenticate", {"token": "wrong"}, 1)
            + request("authenticate", {"token": WRITER}, 2)
            + request("execute", {"command": ADD}, 3)
        )
        told = await caller.rest()
        assert [(each["id"], each["error"]["data"]) for each in told] == [
            (1, {"error": "NotAuthenticated", "problem": "the token is not known"}),
            (2, {"error": "NotAuthenticated", "problem": "the token is not known"}),
            (3, {"error": "NotAuthenticated", "problem": "no token was given"}),
        ]
    async with served(tokens=Tokens(LINES)) as server, calling(server) as caller:
        guesses = [request("authenticate", {"token": token}).strip() for token in ("wrong", WRITER)]
        await caller.send(b"[" + b",".join(guesses) + b"]\n")
        (batch,) = await caller.rest()
        assert [each["error"]["code"] for each in batch] == [1007, 1007]


@pytest.mark.anyio
async def test_who_was_known_and_gives_a_wrong_token_is_known_no_more() -> None:
    async with served(tokens=Tokens(LINES)) as server, calling(server) as caller:
        await caller.call("authenticate", {"token": WRITER})
        await caller.send(request("authenticate", {"token": "wrong"}, 1) + request("execute", {"command": ADD}, 2))
        assert [each["error"]["code"] for each in await caller.rest()] == [1007, 1007]


@pytest.mark.anyio
async def test_a_server_without_tokens_lets_everybody_write() -> None:
    async with served() as server, calling(server) as caller:
        assert await caller.call("authenticate", {"token": "whatever"}) == {"role": "writer"}
        assert (await caller.call("execute", {"command": ADD}))["position"] == 1


@pytest.mark.anyio
async def test_no_token_is_in_a_log_line_or_a_reply(log_lines: list[Any]) -> None:
    async with served(tokens=Tokens(LINES)) as server, calling(server) as caller, calling(server) as other:
        for secret in (READER, WRITER, "a-wrong-secret"):
            for params in ({"token": [secret]}, {"token": secret, "more": 1}, [secret], secret):
                error = await other.call("authenticate", params)
                assert secret not in str(error)
            found = await caller.call("authenticate", {"token": secret})
            assert secret not in str(found)
        assert not any(secret in f"{server!r} {vars(server)}" for secret in (READER, WRITER))
    assert not any(secret in str(log_lines) for secret in (READER, WRITER, "a-wrong-secret"))
    assert [line["tokens"] for line in log_lines if line["event"] == "server_listening"] == [True]

"""Roles of an application's own: which messages each may send, on the socket and over HTTP alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from millstream.engine import DefinitionError
from millstream.engine.server import Permits, Role, Tokens, roles_from
from millstream.engine.wire.requests import params_of
from tests.engine.server.caller import ADD, STOCK, calling, request, served
from tests.engine.web.asking import over_http
from tests.shop import shop

CLERK, GUEST = "clerk-0123456789", "guest-0123456789"
ROLES = {
    "clerk": Permits(frozenset({"Add"}), frozenset({"StockOf"}), frozenset({"stats"})),
    "guest": Permits(queries=frozenset({"*"})),
}
TOKENS = Tokens([f"clerk:{CLERK}", f"guest:{GUEST}"], roles=ROLES)
TAKE = {"type": "Take", "item": "a", "count": 1}


def refusal(method: str, role: str) -> dict[str, Any]:
    return {
        "code": 1008,
        "message": f"role {role!r} may not call {method!r}: use a token of a role that may",
        "data": {"error": "NotPermitted", "method": method, "role": role},
    }


@pytest.mark.anyio
async def test_a_role_sends_the_messages_that_it_is_permitted_and_no_others() -> None:
    async with served(tokens=TOKENS) as server, calling(server) as clerk, calling(server) as guest:
        assert await clerk.call("authenticate", {"token": CLERK}) == {"role": "clerk"}
        assert await guest.call("authenticate", {"token": GUEST}) == {"role": "guest"}
        assert (await clerk.call("execute", {"command": ADD}))["position"] == 1
        assert await clerk.call("execute", {"command": TAKE}) == refusal("execute Take", "clerk")
        assert (await clerk.call("ask", {"query": STOCK}))["answer"] == 1
        assert await clerk.call("ask", {"query": {"type": "Everything"}}) == refusal("ask Everything", "clerk")
        assert await clerk.call("watch", {"query": {"type": "Everything"}}) == refusal("watch Everything", "clerk")
        both = {"queries": [STOCK, {"type": "Everything"}]}
        assert await clerk.call("ask_all", both) == refusal("ask_all Everything", "clerk")
        assert await clerk.call("ask_all", {"queries": [STOCK]}) == {"answers": [1], "position": 1}
        assert await guest.call("ask_all", both) == {"answers": [1, {"a": 1}], "position": 1}
        assert (await clerk.call("stats"))["writer"]["commit"] == 1
        assert await clerk.call("follow") == refusal("follow", "clerk")
        assert await clerk.call("settle", {"entry": "x", "verdict": "drop"}) == refusal("settle", "clerk")
        assert (await guest.call("ask", {"query": {"type": "Everything"}}))["answer"] == {"a": 1}
        assert await guest.call("execute", {"command": ADD}) == refusal("execute", "guest")


@pytest.mark.anyio
async def test_nothing_of_an_execute_many_with_one_command_too_many_is_done_nor_of_one_that_is_badly_written() -> None:
    async with served(tokens=TOKENS) as server, calling(server) as clerk:
        await clerk.call("authenticate", {"token": CLERK})
        refused = refusal("execute_many Take", "clerk")
        assert await clerk.call("execute_many", {"commands": [ADD, TAKE]}) == refused
        assert await clerk.call("execute_many", {"commands": [{"type": "Add", "item": 3}, TAKE]}) == refused
        told = await clerk.call("execute_many", {"commands": [{**ADD, "type": 7}]})
        assert told["data"]["error"] == "NotPermitted"
        assert len((await clerk.call("execute_many", {"commands": [ADD, ADD]}))["outcomes"]) == 2
        assert (await clerk.call("ask", {"query": STOCK}))["answer"] == 2


@pytest.mark.anyio
async def test_a_batch_is_looked_at_message_by_message() -> None:
    async with served(tokens=TOKENS) as server, calling(server) as clerk:
        await clerk.call("authenticate", {"token": CLERK})
        both = [request("execute", {"command": each}, to)[:-1] for to, each in ((1, ADD), (2, TAKE))]
        await clerk.send(b"[" + b",".join(both) + b"]\n")
        found = {each["id"]: each for each in await clerk.reply()}
        assert (found[1]["result"]["position"], found[2]["error"]) == (1, refusal("execute Take", "clerk"))


@pytest.mark.anyio
async def test_over_http_a_role_may_do_the_same() -> None:
    async with over_http(tokens=TOKENS) as web:
        clerk, guest = {"Authorization": f"Bearer {CLERK}"}, {"Authorization": f"Bearer {GUEST}"}
        item = {"item": "a", "count": 1}
        for method, path, headers, status in (
            ("POST", "/commands/Add", clerk, 200),
            ("POST", "/commands/Take", clerk, 403),
            ("POST", "/commands/Add", guest, 403),
            ("POST", "/commands/Nope", clerk, 403),  # what there is is told to nobody who may not send it
            ("GET", "/queries/StockOf?item=a", clerk, 200),
            ("GET", "/queries/Everything", clerk, 403),
            ("GET", "/watch/Everything", clerk, 403),
            ("GET", "/queries/Everything", guest, 200),
            ("GET", "/events", clerk, 403),
            ("GET", "/openapi.json", guest, 200),
        ):
            told = await web.client.request(method, path, headers=headers, json=item if method == "POST" else None)
            assert (told.status_code, path) == (status, path)


def test_roles_are_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "roles.toml"
    path.write_text(
        '[clerk]\ncommands = ["Add"]\nqueries = ["StockOf"]\nmethods = ["stats"]\n[guest]\nqueries = ["*"]\n'
    )
    assert roles_from(path) == ROLES
    for text, problem in (
        ("[clerk", "are none"),
        ('[clerk]\nmay = ["Add"]', "unknown field"),
        ('[clerk]\nmethods = ["execute"]', "a role has no method 'execute' of its own; there are agenda, follow"),
    ):
        path.write_text(text)
        with pytest.raises(DefinitionError, match=problem):
            roles_from(path)
    with pytest.raises(DefinitionError, match=r"can't be read from '.*none': No such file"):
        roles_from(tmp_path / "none")


@pytest.mark.parametrize("name", ["reader", "writer", "", "a b", "a:b"])
def test_a_role_has_a_name_of_its_own(name: str) -> None:
    with pytest.raises(DefinitionError, match="a role is called by a word"):
        Tokens(["reader:0123456789abcdef"], roles={name: Permits()})


def test_a_token_of_a_role_that_there_is_not_is_refused() -> None:
    with pytest.raises(DefinitionError, match="is not reader:TOKEN or writer:TOKEN or clerk:TOKEN"):
        Tokens(["boss:0123456789abcdef"], roles={"clerk": Permits()})


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("permits", "problem"),
    [
        (Permits(frozenset({"Nope"})), "a command that there is not: 'Nope'"),
        (Permits(queries=frozenset({"Add"})), "'Add'"),
    ],
)
async def test_a_message_that_the_application_does_not_have_is_found_at_the_start(
    permits: Permits, problem: str
) -> None:
    tokens = Tokens(["clerk:0123456789abcdef"], roles={"clerk": permits})
    with pytest.raises(DefinitionError, match=problem):
        async with served(tokens=tokens):
            pass
    with pytest.raises(DefinitionError, match=problem):
        async with over_http(tokens=tokens):
            pass


def test_the_roles_that_are_always_there_are_no_others() -> None:
    assert TOKENS.role_of(CLERK) == "clerk"
    assert {*Role} == {"reader", "writer"}
    assert {"follow", "stats", "agenda", "settle"} < set(params_of(shop))

"""An application for tests of reactions that go on and on: each command grows a tree, a command for each branch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from millstream.engine import App, Command, Event, Key
from millstream.handlers import Aggregate, Reaction, Rejected, WriteModel, applies, handles, reacts


class Node(msgspec.Struct, frozen=True):
    name: str
    how: Literal["ok", "refuse", "crash", "break"] = "ok"
    fails_after: int = -1
    then: tuple[Node, ...] = ()


class Grow(Command):
    key: Key
    node: Node


class Grown(Event):
    key: Key
    node: Node


class Tree(WriteModel):
    grown: list[str] = []

    @handles
    def grow(self, command: Grow) -> Iterator[Event]:
        if command.node.how == "refuse":
            raise Rejected("refused", command.node.name)
        if command.node.how == "crash":
            raise KeyError(command.node.name)
        yield Grown(command.key, command.node)

    @applies
    def when_grown(self, event: Grown) -> None:
        if event.node.how == "break":
            raise ValueError(event.node.name)
        self.grown.append(event.node.name)

    @reacts
    def branch(self, event: Grown) -> Reaction:
        for index, child in enumerate(event.node.then):
            if event.node.fails_after == index:
                raise RuntimeError(f"after {index}")
            yield Grow(event.key, child)


forest = App(models=[Tree], name="forest")


def node(name: str, *then: Node, how: Any = "ok", fails_after: int = -1) -> Node:
    return Node(name, how, fails_after, then)


class Trunk(Aggregate):
    """The same, with an instance for each key."""

    grown: list[str] = []

    @handles
    def grow(self, command: Grow) -> Iterator[Event]:
        yield from Tree.grow(self, command)  # type: ignore[arg-type]

    @applies
    def when_grown(self, event: Grown) -> None:
        Tree.when_grown(self, event)  # type: ignore[arg-type]

    @reacts
    def branch(self, event: Grown) -> Reaction:
        yield from Tree.branch(self, event)  # type: ignore[arg-type]


grove = App(models=[Trunk], name="forest")

"""A plugin for pytest: ``pytest_plugins = ["millstream.engine.testing.plugin"]`` in a conftest.py.

Here: the fixture. Not here: what it gives (`scenario`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import pytest

from millstream.engine.application.app import App
from millstream.engine.testing.scenario import Scenario

__all__ = ["NewScenario", "scenario_of", "scenarios"]

#: The type of the fixture: takes an application, and the keyword arguments of a `Scenario`.
NewScenario: TypeAlias = Callable[..., Scenario]


def scenarios() -> Iterator[NewScenario]:
    """Gives what makes scenarios, ``scenario_of(app)``. When the test ends each is checked: `Scenario.check`."""
    made: list[Scenario] = []

    def new(app: App, **how: Any) -> Scenario:
        made.append(Scenario(app, **how))
        return made[-1]

    yield new
    for scenario in made:
        scenario.check()


#: The fixture.
scenario_of = pytest.fixture(scenarios, name="scenario_of")

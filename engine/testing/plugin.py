"""A plugin for pytest: ``pytest_plugins = ["millstream.engine.testing.plugin"]`` in a conftest.py.

Here: the fixture, and the end of its scenarios, which is the end of their test. Not here: what it gives (`scenario`).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any, TypeAlias

import pytest

from millstream.engine.application.app import App
from millstream.engine.testing.scenario import Scenario

__all__ = ["NewScenario", "pytest_runtest_call", "scenario_of"]

#: The type of the fixture: takes an application, and the keyword arguments of a `Scenario`.
NewScenario: TypeAlias = Callable[..., Scenario]

_MADE = pytest.StashKey[list[Scenario]]()


@pytest.fixture
def scenario_of(request: pytest.FixtureRequest) -> Iterator[NewScenario]:
    """Gives what makes scenarios, ``scenario_of(app)``. The test is the ``with`` block of each: where it passes, each
    is checked at its end, and the test fails if that does; their fakes are left in any case.
    """
    if not request.config.pluginmanager.has_plugin(__name__):
        pytest.fail(f'no plugin ends its scenarios: say pytest_plugins = ["{__name__}"], and import no fixture', False)
    made: list[Scenario] = []
    request.node.stash[_MADE] = made

    def new(app: App, **how: Any) -> Scenario:
        made.append(Scenario(app, **how).__enter__())
        return made[-1]

    yield new
    for scenario in made:
        scenario.close()  # of a test that did not begin, or where one before it has failed


@pytest.hookimpl(wrapper=True, trylast=True)  # the innermost: what fakes print as they are left is the test's
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Within the test: what fails at its end is that test, and what has failed before is not reported once more."""
    __tracebackhide__ = True
    made = item.stash.get(_MADE, [])
    try:
        returned = yield
    except BaseException as error:
        for scenario in made:
            scenario.__exit__(type(error), error, error.__traceback__)
        raise
    for scenario in made:
        scenario.__exit__(None, None, None)
    return returned

"""The plugin for pytest: a scenario ends with its test, which fails once, and says why."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

MODULE = """
    from collections.abc import Iterator

    import pytest

    from millstream.engine import App, Command, Event, Key, Rejected
    from millstream.handlers import Effects, WriteModel, applies, handles, performs

    class Send(Command):
        to: Key

    class Sent(Event):
        to: Key

    class Post(WriteModel):
        @handles
        def send(self, command: Send) -> Iterator[Sent]:
            if command.to == "nobody":
                raise Rejected("no_address", "to nobody")
            yield Sent(command.to)

        @applies
        def sent(self, event: Sent) -> None: ...

    class Line(Effects):
        async def __aenter__(self):
            print("entered")

        async def __aexit__(self, *_):
            print("left")

        @performs
        async def deliver(self, event: Sent) -> None: ...

    @pytest.fixture
    def post(scenario_of):
        scenario = scenario_of(App(models=[Post], effects=[Line]), effects=[Line()])
        scenario.given(Send("ann"))
        return scenario
"""
TESTS = {
    "test_passes": """
        post.perform()
        print("in the test")
    """,
    "test_differs": """
        post.perform()
        post.when(Send("bob"))
        post.then(Sent("cyd"))
    """,
    "test_is_refused_and_expects_an_event": """
        post.when(Send("nobody"))
        post.then(Sent("nobody"))
    """,
    "test_ends_with_what_it_does_not_expect": """
        post.when(Send("nobody"))
    """,
    "test_goes_on_after_what_it_does_not_expect": """
        post.when(Send("nobody"))
        post.when(Send("bob"))
    """,
    "test_is_skipped": """
        post.when(Send("nobody"))
        pytest.skip("today")
    """,
}


def run(pytester: pytest.Pytester, *, conftest: str) -> pytest.RunResult:
    pytester.makeconftest(conftest)
    tests = [f"    def {name}(post):{body}" for name, body in TESTS.items()]
    pytester.makepyfile("\n".join([MODULE, *tests]))
    return pytester.runpytest_subprocess("-rA", "-p", "no:cacheprovider")


def test_a_test_that_fails_is_reported_once_with_the_difference_and_its_fakes_are_left(
    pytester: pytest.Pytester,
) -> None:
    result = run(pytester, conftest='pytest_plugins = ["millstream.engine.testing.plugin"]')
    result.assert_outcomes(passed=1, failed=4, skipped=1)
    text = result.stdout.str()
    assert text.count("\nE   AssertionError") + text.count("\nE       AssertionError") == 4
    result.stdout.fnmatch_lines(
        [
            '>       post.then(Sent("cyd"))*',
            "E       AssertionError: what happened is not what was expected (- is missing, + is there):",
            "E         - Sent(to='cyd')",
            "E         + Sent(to='bob')",
            '>       post.then(Sent("nobody"))*',
            "E       AssertionError: the command was refused: no_address: to nobody",
            '>*raise Rejected("no_address", "to nobody")*',
            "E   *AssertionError: a command was refused, and nothing expects that: no_address: to nobody",
            '>       post.when(Send("bob"))*',
            "E       AssertionError: a command was refused, and nothing expects that: no_address: to nobody",
        ]
    )
    assert "engine/write/kernel.py" not in text
    assert (text.count("entered\n"), text.count("left\n")) == (2, 2)
    assert "entered\nin the test\nleft\n" in text


def test_the_fixture_without_the_plugin_says_what_is_missing(pytester: pytest.Pytester) -> None:
    result = run(pytester, conftest="from millstream.engine.testing.plugin import scenario_of")
    assert result.parseoutcomes() == {"errors": 6}
    result.stdout.fnmatch_lines(["*no plugin ends its scenarios: say pytest_plugins*"])

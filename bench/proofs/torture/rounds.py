"""Plays one round: begins its processes, takes its images, sends its signals. What comes of it is judged elsewhere.

Here: which signal when, and what a process may end with. Not here: anything about what is in the log.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

from millstream.bench.proofs.files import copy_log, stalled
from millstream.bench.proofs.torture.check import Kind, Problem
from millstream.bench.proofs.torture.child import EXIT_LOCKED, Order
from millstream.bench.proofs.torture.images import Image
from millstream.bench.proofs.torture.plan import Ending, Round, Shot
from millstream.bench.proofs.torture.process import PROGRAM, Child, hold, listen
from millstream.bench.proofs.torture.reports import Report
from millstream.bench.proofs.torture.service import calls_in, service_of

__all__ = ["Played", "play"]

_SECONDS_MAX = 60.0
_ANSWER_SECONDS_MAX = 0.05
_ERRORS_CHARS_MAX = 2_000


class Played(NamedTuple):
    """What happened in a round."""

    reports: list[Report]
    images: list[Image]
    #: The process that had the log was ended by SIGKILL.
    killed: bool
    #: The generation of the process that had the log.
    generation: int
    #: What the processes themselves did wrong.
    problems: list[Problem]


def play(
    plan: Round,
    shots: Sequence[Shot],
    orders: Sequence[Order],
    folder: Path,
    *,
    checkpointed: bool,
    program: Sequence[str] = PROGRAM,
) -> Played:
    """Play a round to its end: when it returns, none of its processes lives.

    Args:
        plan: what is to be done when.
        shots: the images to take; only in a round under load.
        orders: that of the process, and if a rival is planned its.
        folder: the round's own; errors and images are kept there.
        checkpointed: parts of the WAL may be in the main file already.
        program: what to run as a process.
    """
    with ExitStack() as stack:
        first = stack.enter_context(Child(orders[0], folder / "errors.txt", program))
        children, problems, images, child = [first], list[Problem](), list[Image](), first
        try:
            if plan.rival_after_ms is not None:
                hold(children, plan.rival_after_ms)
                children.append(stack.enter_context(Child(orders[1], folder / "rival errors.txt", program)))
                child, problems = _winner(*children)
            images = _until_the_end(plan, shots, child, folder, checkpointed=checkpointed)
        except TimeoutError as error:
            problems.append(Problem(Kind.PROCESS, str(error)))
        codes = [_end_of(each) for each in children]
        for each, code in zip(children, codes, strict=True):
            problems += _wrong_end(plan, each, code, alone=each is child)
        killed = codes[children.index(child)] == -signal.SIGKILL
        reports = [report for each in children for report in each.reports()]
    return Played(reports, images, killed, child.order.generation, problems)


def _until_the_end(
    plan: Round, shots: Sequence[Shot], child: Child, folder: Path, *, checkpointed: bool
) -> list[Image]:
    """Everything that happens to the process that has the log, up to its death."""
    images: list[Image] = []
    loaded = plan.ending in (Ending.LOAD, Ending.CLOSING) and _reached(child, "open")
    for number, shot in enumerate(shots if loaded else ()):
        _answered(child, shot.answers)
        hold([child], shot.after_ms)
        if child.stop():
            log = copy_log(Path(child.order.log), folder / f"image {number}")
            calls = calls_in(service_of(Path(child.order.log)))
            images.append(Image(log, shot.tear, child.said, checkpointed or plan.checkpoints, calls))
            child.signal(signal.SIGCONT)
    if loaded:
        _answered(child, plan.answers)
    if plan.ending is Ending.CLOSING:
        child.signal(signal.SIGTERM)
        _reached(child, "closing")
    if plan.ending is Ending.OPENING:
        _reached(child, "opening")
    if plan.stopped_ms and child.stop():
        hold([child], plan.stopped_ms)
        child.signal(signal.SIGCONT)
    hold([child], plan.after_ms)
    if plan.ending is Ending.TERMINATED:
        child.signal(signal.SIGTERM)
        child.wait(_SECONDS_MAX)
    elif loaded and plan.stalled_ms and not child.ended:
        with stalled(Path(child.order.log)):
            hold([child], plan.stalled_ms)
            _kill(plan, child)
    else:
        _kill(plan, child)
    return images


def _kill(plan: Round, child: Child) -> None:
    """Kill it now; or as soon as it says anything: an answer that was given too early is never so bare as then; or as
    soon as the service was called.
    """
    said, calls = child.said, child.calls
    if plan.at_call:
        listen([child], lambda: child.calls > calls, _ANSWER_SECONDS_MAX)
    elif plan.at_answer:
        listen([child], lambda: child.said > said, _ANSWER_SECONDS_MAX)
    child.kill()


def _end_of(child: Child) -> int:
    """Kill it, unless it was refused the log: then it is about to end by itself. Returns its exit code."""
    if "locked" in child.marks:
        with suppress(TimeoutError):
            return child.wait(_SECONDS_MAX)
    return child.kill()


def _answered(child: Child, each: float) -> None:
    """Wait until its callers have got so many more answers each, and one at least; or until it has ended."""
    wanted = child.said + 1 + int(each * child.order.callers)
    listen([child], lambda: child.said >= wanted, _SECONDS_MAX)
    if child.said < wanted and not child.ended:
        raise TimeoutError(f"process {child.order.generation} has given no answers for {_SECONDS_MAX:g} s")


def _reached(child: Child, mark: str) -> bool:
    """Wait until the child has said that it is so far. False if it ended before."""
    if listen([child], lambda: mark in child.marks, _SECONDS_MAX):
        return True
    if child.ended:
        return False
    raise TimeoutError(f"process {child.order.generation} did not reach {mark!r} within {_SECONDS_MAX:g} s")


def _winner(first: Child, second: Child) -> tuple[Child, list[Problem]]:
    """Which of two has the log, once the other one has been refused."""
    both = [first, second]

    def settled() -> bool:
        return all(child.marks & {"open", "locked"} or child.ended for child in both)

    if not listen(both, settled, _SECONDS_MAX):
        raise TimeoutError(f"of two processes, one is at {first.marks} and one at {second.marks}")
    opened = [child for child in both if "open" in child.marks]
    if len(opened) != 1:
        who = "both have" if opened else "neither has"
        return first, [Problem(Kind.LOCK, f"of two processes that wanted the log at once, {who} it")]
    return opened[0], []


def _wrong_end(plan: Round, child: Child, code: int, *, alone: bool) -> list[Problem]:
    """What is wrong with how a process ended."""
    right = {-signal.SIGKILL} if alone else {EXIT_LOCKED}
    if plan.ending in (Ending.CLOSING, Ending.TERMINATED) and "closed" in child.marks:
        right.add(0)
    if plan.ending is Ending.TERMINATED and "opening" not in child.marks:
        right.add(-signal.SIGTERM)
    if code in right:
        return []
    who = f"process {child.order.generation}"
    if code == EXIT_LOCKED:
        return [Problem(Kind.LOCK, f"{who} was refused, and no other had the log")]
    errors = child.errors.read_text("utf-8", errors="replace")[-_ERRORS_CHARS_MAX:]
    return [Problem(Kind.PROCESS, f"{who} was at {sorted(child.marks)} and ended with {code}: {errors or 'silent'}")]

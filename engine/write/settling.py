"""What becomes of an entry of the agenda: because an operator wants it so, or because an effect was performed. And what
an operator sees of it, in the same order.

Here: entering it in the rows, and deciding what follows. It sees no promise, no queue and no loop. Not here: whose turn
it is (`batch`), how a command is decided (`cascade`), and performing an effect (`outside`).

Invariant: what came of an effect is decided only while that is owed, by the commit that strikes it.
"""

from __future__ import annotations

import msgspec

from millstream.engine.application.interrupts import INTERRUPTS
from millstream.engine.application.messages import Command, Receipt
from millstream.engine.errors import InvalidMessage, MillstreamError, NotOnAgenda
from millstream.engine.errors.said import told_of
from millstream.engine.limits import Limits
from millstream.engine.observers import Fault
from millstream.engine.write.cascade import conclude, decide_owed, fire
from millstream.engine.write.entries import (
    AgendaEntry,
    Effect,
    Entry,
    Looking,
    Outcome,
    Performed,
    Settlement,
    Timer,
    id_of,
    settled_of,
)
from millstream.engine.write.listing import found_of
from millstream.engine.write.rows import Rows
from millstream.engine.write.state import WriteState

__all__ = ["look", "settle", "take_performed"]


def take_performed(rows: Rows, performed: Performed, state: WriteState, limits: Limits) -> None:
    """Strike an effect, or park it, and decide what came of it.

    Its outcome is a receipt of this commit; or `NotOnAgenda`, if the effect is not owed any more: nothing is decided.

    Raises:
        KeyboardInterrupt, SystemExit: user code raised it. The rows and the state must not be used any more.
    """
    agenda, name = state.agenda, performed.name
    effect = agenda.effects.get(name)
    if effect is None:
        rows.outcomes.append(NotOnAgenda(id_of(name), len(agenda)))
        rows.refused += 1
        return
    agenda.strike(name)
    if performed.how == "parked":
        rows.sheet.add(effect.failed(performed.error, performed.text, performed.attempts))
        failed = Effect(**{field: getattr(effect, field) for field in effect.__struct_fields__})
        failed.error, failed.text, failed.attempts = performed.error, performed.text, performed.attempts
        agenda.enter(failed)
        rows.outcomes.append(_receipt(rows, 1))
        return
    is_refused, parked = conclude(performed.commands, effect, state, rows, limits)
    rows.sheet.add(settled_of(name, "refused" if is_refused else performed.how, performed.attempts))
    rows.outcomes.append(_receipt(rows, parked))


def _decide_again(outcome: Outcome, state: WriteState, rows: Rows, limits: Limits) -> None:
    """Decide what came of an effect once more. It is struck, or parked again."""
    state.agenda.strike(outcome.name)
    commands: list[Command] = []
    try:
        found = [state.app.command_today(each.encode()) for each in outcome.commands]
        commands = [each for each in found if each is not None]
    except INTERRUPTS:
        raise
    except BaseException as error:  # noqa: BLE001 - it stays parked, with what it raised
        kind, text = told_of(error)
        rows.faults.append(Fault(f"effect {outcome.id}", "a command", error, outcome.metadata.correlation))
        again = Outcome(outcome.position, outcome.by, outcome.commands, outcome.key, outcome.metadata, kind, text)
        rows.sheet.add(again.failed())
        state.agenda.enter(again)
        return
    is_refused, _ = conclude(commands, outcome, state, rows, limits)
    if outcome.name not in state.agenda.parked:
        state.agenda.let_go(outcome.name, rows.number)
        rows.sheet.add(settled_of(outcome.name, "refused" if is_refused else "done" if commands else "void"))


def _receipt(rows: Rows, parked: int) -> Receipt:
    return Receipt(rows.number, rows.position, 0, None, None, False, parked)


def look(rows: Rows, asked: Looking, state: WriteState) -> None:
    """Show a part of the agenda as it is now.

    Its outcome is a receipt with that as its answer, given when all before it is durable; or what is wrong
    with it.
    """
    try:
        found = found_of(state.agenda, asked)
    except MillstreamError as error:
        rows.outcomes.append(error)
        rows.refused += 1
        return
    rows.outcomes.append(msgspec.structs.replace(rows.nothing(None), answer=found))


def settle(rows: Rows, asked: Settlement, state: WriteState, limits: Limits) -> None:
    """What an operator wants to become of an entry. What is tried again is decided at once, if there is room.

    Its outcome is a receipt of this commit, which says with ``parked`` that it failed again; or what is wrong with it.
    """
    agenda, name = state.agenda, asked.name
    try:
        entry = agenda.find(name)
        if asked.how == "retried":
            _require_retry(entry, asked, state)
        elif asked.how == "fired" and not (isinstance(entry, Timer) and not entry.is_parked):
            raise InvalidMessage("fire_now", f"{entry.id!r} is no timer that waits")
    except MillstreamError as error:
        rows.outcomes.append(error)
        rows.refused += 1
        return
    if isinstance(entry, Outcome) and asked.how == "retried":
        _decide_again(entry, state, rows, limits)
    elif asked.how != "fired":
        settled = settled_of(name, asked.how)
        rows.sheet.add(settled)
        agenda.settle(settled, rows.number)
    again = agenda.timers.get(name)
    if asked.how != "dropped" and again is not None:
        fire(again, state, rows, limits)
    elif asked.how == "retried":
        decide_owed(state, rows, limits)
    rows.outcomes.append(_receipt(rows, int(name in agenda.parked)))


def _require_retry(entry: AgendaEntry, asked: Settlement, state: WriteState) -> None:
    """See that an entry can be tried again.

    Raises:
        InvalidMessage: it can't.
    """
    if not entry.is_parked:
        raise InvalidMessage("retry", f"{entry.id!r} is not parked, and comes in its turn")
    if isinstance(entry, Effect) and entry.by not in state.app.effects_by_name:
        problem = f"application {state.app.name!r} has no effect {entry.by!r}: say App(renamed=…), or drop it"
        raise InvalidMessage("retry", problem)
    if not isinstance(entry, Entry):
        return
    if entry.by not in state.app.reactions_by_name:
        problem = f"application {state.app.name!r} has no reaction {entry.by!r}: say App(renamed=…), or drop it"
        raise InvalidMessage("retry", problem)
    if entry.decided and not asked.again:
        raise InvalidMessage(
            "retry",
            f"{entry.decided:,} commands of {entry.id!r} were decided, and stand: to "
            "send them a second time, say again=True; else drop it, and send the rest yourself",
        )

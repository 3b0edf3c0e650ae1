from __future__ import annotations

import copy
import inspect
import pickle

import pytest

from millstream.engine import UnreadableEvent, errors
from millstream.engine.errors import (
    AgendaUnreadable,
    AnswerFailed,
    AnswerTooLarge,
    AnswerUnreadable,
    ApplyFailed,
    AuthorError,
    CallerError,
    CommandIdReused,
    CommitFailed,
    CommitsLost,
    CommitTooLarge,
    ConnectionLost,
    DeadlineExceeded,
    DefinitionError,
    EngineClosed,
    EventsUnreadable,
    Fenced,
    HandlerFailed,
    ImpureHandler,
    InvalidMessage,
    LimitReached,
    LogCorrupt,
    LogLocked,
    LogRefused,
    MillstreamError,
    NotAuthenticated,
    NotKept,
    NotLeader,
    NotOnAgenda,
    NotPermitted,
    NotYetVisible,
    OutcomeUnknown,
    Overloaded,
    ProtocolViolated,
    Rejected,
    RemoteError,
    SnapshotMismatch,
    StorageError,
    TryAgainLater,
    UnknownMessage,
    VersionConflict,
    ViewBehind,
    ViewFaulted,
    ViewIncomplete,
    ViewUnavailable,
    WatchesFull,
    WatchOverrun,
    WriterUnavailable,
    WrongLoop,
    WrongShard,
)

#: Every error with its branch and its text: the thing, the state, the limit, the next step.
TEXTS: list[tuple[type[MillstreamError], MillstreamError, str]] = [
    (CallerError, Rejected("no_funds", "only 3 left", {"left": 3}), "no_funds: only 3 left"),
    (CallerError, Rejected("no_funds"), "no_funds"),
    (CallerError, InvalidMessage("Deposit", "Expected `int`"), "Deposit is not valid: Expected `int`"),
    (CallerError, WrongShard("key 'a'", "it is not here"), "key 'a' is at the wrong shard: it is not here"),
    (
        CallerError,
        UnknownMessage("command", "Steal", "bank", ("Open", "Deposit"), "commit 3"),
        "application 'bank' has no command 'Steal' (commit 3); it has: Open, Deposit",
    ),
    (
        CallerError,
        VersionConflict("ann", 1_000, 1_002),
        "key 'ann' is at version 1,002, not at 1,000: it was changed since; look again and decide anew",
    ),
    (
        CallerError,
        CommandIdReused("pay-7", "Deposit", 1_234),
        "command id 'pay-7' belongs to a command with another content or actor, in commit 1,234: "
        "this Deposit was not executed; give it an id of its own",
    ),
    (
        CallerError,
        AnswerTooLarge("Hold", 20_000, 16_384),
        "the answer of Hold has 20,000 bytes; one has at most answer_bytes_max=16,384: "
        "ask for less, let a query answer it, or raise the limit",
    ),
    (
        AuthorError,
        AgendaUnreadable("shop.db", "shop", {"Release": 2, "Remind": 1_000}),
        "application 'shop' does not know commands that timers of shop.db send: 2 of 'Release', 1,000 of 'Remind'; "
        "describe them with App(retired=…), or park or drop them: `millstream agenda list` names them",
    ),
    (
        AuthorError,
        AnswerUnreadable("Hold", "Expected `int`, got `str`", None),
        "Hold was executed, and its answer can't be read: Expected `int`, got `str`; take the receipt that this error "
        "holds, or let the class promise what was answered then, too",
    ),
    (
        CallerError,
        CommitTooLarge("Import", 9_000_000, 4_000_000),
        "Import needs 9,000,000 bytes of a commit, which holds at most commit_bytes_max=4,000,000: "
        "split the command, or raise the limit",
    ),
    (
        TryAgainLater,
        Overloaded(10_000, 10_000),
        "the mailbox is full: 10,000 commands wait, mailbox_commands_max=10,000; try again later, or let execute() wait",
    ),
    (
        TryAgainLater,
        Overloaded(9, 10_000, 64_000_000, 67_108_864),
        "the mailbox is full: 64,000,000 bytes of large commands wait, mailbox_bytes_max=67,108,864; try again later, "
        "or let execute() wait",
    ),
    (
        TryAgainLater,
        DeadlineExceeded("Deposit", 2.5, decided=False),
        "Deposit still waited after 2.5 s and was not executed; it is safe to retry",
    ),
    (
        TryAgainLater,
        DeadlineExceeded("Deposit", 2.5, decided=True),
        "Deposit was decided but not yet durable after 2.5 s; it stands once its commit is written: "
        "look before sending it again",
    ),
    (
        TryAgainLater,
        ViewBehind("Balances", 7, 100, 100),
        "view Balances is at position 7 and 100 queries already wait for it, view_waiters_max=100; "
        "try again later, or ask without after=",
    ),
    (
        TryAgainLater,
        NotYetVisible("Balances", 7, 9, 0.5),
        "view Balances is at position 7 and did not reach 9 within 0.5 s: "
        "ask again with the same token; a position that no receipt and no answer has named may never come",
    ),
    (TryAgainLater, WriterUnavailable("it stopped"), "the writer takes no commands: it stopped; views still answer"),
    (
        TryAgainLater,
        EngineClosed("closing"),
        "the engine is closing; use it inside 'async with Engine(app, log=…) as engine:'",
    ),
    (
        StorageError,
        CommitFailed(8, "database or disk is full"),
        "commit 8 was not written: database or disk is full; nothing of it happened, it is safe to retry",
    ),
    (
        StorageError,
        OutcomeUnknown(8, "I/O error"),
        "it is not known whether commit 8 was written: I/O error; "
        "open the log again and look before sending the command again",
    ),
    (
        StorageError,
        LogCorrupt("bank.db", 8, "its digest does not match"),
        "log bank.db is damaged at commit 8: its digest does not match; commits 1 to 7 are whole: restore a backup",
    ),
    (
        StorageError,
        LogCorrupt("bank.db", 1, "its digest does not match"),
        "log bank.db is damaged at commit 1: its digest does not match; no commit before it: restore a backup",
    ),
    (
        StorageError,
        LogRefused("bank.db", "it is not a database", "name another file"),
        "log bank.db is refused: it is not a database; name another file",
    ),
    (
        StorageError,
        LogLocked("bank.db"),
        "log bank.db is open in another writer, and there can be one only: close that one first, or wait for it "
        "with wait_for_lock_seconds; web workers share one writer, each with a Client or a Replica of its own",
    ),
    (
        StorageError,
        Fenced("bank.db", 8, 9),
        "log bank.db has its head at commit 9, so commit 8 does not follow: "
        "another writer has taken over, this one has stopped",
    ),
    (
        StorageError,
        Fenced("bank.db", 8, 7),
        "log bank.db has another writer, which has taken over at commit 7: commit 8 is not written, this one has stopped",
    ),
    (
        StorageError,
        CommitsLost("bank.db", 8, 5),
        "log bank.db ends at commit 5, and commit 8 was durable: the store has lost what it had taken; "
        "bring that back before anybody writes, or open everything anew to go on without it",
    ),
    (AuthorError, DefinitionError("handled twice", "a.B.c", "d.E.f"), "handled twice (a.B.c and d.E.f)"),
    (AuthorError, DefinitionError("no models"), "no models"),
    (
        AuthorError,
        HandlerFailed("bank.Bank.deposit", "Deposit", "KeyError('ann')"),
        "bank.Bank.deposit failed on Deposit: KeyError('ann'); nothing changed, the handler needs mending",
    ),
    (
        AuthorError,
        ImpureHandler("bank.Bank.deposit", "Deposit"),
        "bank.Bank.deposit changed its state while handling Deposit; only @applies methods may: "
        "yield an event and change the state when it is applied",
    ),
    (
        AuthorError,
        ApplyFailed("bank.Bank.deposited", "Deposited", 12, "KeyError('ann')"),
        "bank.Bank.deposited can't apply Deposited at position 12: KeyError('ann'); "
        "an @applies method must accept every event that its handlers yield",
    ),
    (
        AuthorError,
        AnswerFailed("Balances", "BalanceOf", "KeyError('ann')"),
        "view Balances failed to answer BalanceOf: KeyError('ann'); the view needs mending",
    ),
    (
        AuthorError,
        ViewFaulted("Balances", 12, KeyError("ann")),
        "view Balances faulted at position 12: KeyError('ann'); "
        "mend the view and open the engine again, which rebuilds it from the log",
    ),
    (
        AuthorError,
        SnapshotMismatch("model Bank", "it has no field 'owners' any more"),
        "the snapshot of model Bank does not fit: it has no field 'owners' any more; the log makes the state again",
    ),
    (
        AuthorError,
        ViewIncomplete("Balances", "BalanceOf", 1_200, 3, 1_001, {"ann": 5}),
        "view Balances at position 1,200 has left out 3 parked and 1,001 skipped events; "
        "take its answer with ask(…, incomplete=True), or mend the view and replay_parked()",
    ),
    (
        AuthorError,
        WrongLoop("the engine of bank.db", "an event loop of thread 'a' that runs", "no event loop of thread 'b'"),
        "the engine of bank.db was opened on an event loop of thread 'a' that runs, and is used on no event loop of thread "
        "'b'; nothing was taken: open it on the loop that uses it, or get to its loop with "
        "asyncio.run_coroutine_threadsafe or anyio.from_thread.run",
    ),
    (
        AuthorError,
        EventsUnreadable(
            "bank.db",
            "bank",
            [
                UnreadableEvent("Visited", 1_500, 3, 7, False, "Invalid value 'Visited'"),
                UnreadableEvent("Deposited", 1, 4, 1_002, True, "Expected `int`, got `str` - at `$.amount`"),
            ],
        ),
        "log bank.db holds events that application 'bank' can't read: "
        "'Visited' is not known: 1,500 of them, the first at position 7; "
        "'Deposited' does not fit its class (Expected `int`, got `str` - at `$.amount`): 1 of them, the first at position "
        "1,002. Give App(retired=…) a Retired class for each: what it means today, or nothing any more",
    ),
    (
        CallerError,
        NotAuthenticated("no token was given"),
        "not authenticated: no token was given; call authenticate with a token first, or give Client(token=…)",
    ),
    (
        CallerError,
        NotOnAgenda("event:812/Selling.placed", 2),
        "the agenda has no 'event:812/Selling.placed'; it holds 2: agenda.entries() or `millstream agenda list` names "
        "them",
    ),
    (
        CallerError,
        NotKept("Sales", "earlier state", "ask another view"),
        "view Sales keeps its state in a database, which has no earlier state: ask another view",
    ),
    (
        TryAgainLater,
        ViewUnavailable("Sales", "database is locked"),
        "the database of view Sales can't be used now: database is locked; try again later",
    ),
    (
        CallerError,
        NotPermitted("execute", "reader"),
        "role 'reader' may not call 'execute': use a token of a role that may",
    ),
    (CallerError, ProtocolViolated(-32600, "a request is an object"), "a request is an object"),
    (
        TryAgainLater,
        WatchOverrun("Balances", 1_007, 1_000),
        "a watch of view Balances fell behind: watch_answers_max=1,000 answers waited, the last of them at position 1,007; "
        "watch again, or without every=True",
    ),
    (
        TryAgainLater,
        WatchOverrun("Balances", 1_007, 1_000, 64_000_000),
        "a watch of view Balances fell behind: its share of watch_answers_bytes_max=64,000,000 waited in answers, "
        "the last of them at position 1,007; watch again, or without every=True",
    ),
    (
        TryAgainLater,
        WatchesFull(20_000, 20_000),
        "20,000 watches are open, watches_max=20,000: end some, or try again later",
    ),
    (
        TryAgainLater,
        NotLeader("tcp://127.0.0.1:7411"),
        "this process does not write, and takes no commands: send them to the writer, at tcp://127.0.0.1:7411",
    ),
    (
        TryAgainLater,
        NotLeader(None),
        "this process does not write, and takes no commands: send them to the writer, whose address it was not given",
    ),
    (
        TryAgainLater,
        ConnectionLost("tcp://127.0.0.1:7411", "it was closed", sent=True),
        "no connection to tcp://127.0.0.1:7411: it was closed; the command may have happened: look, or send it again "
        "under the same command_id",
    ),
    (
        TryAgainLater,
        ConnectionLost("unix:///run/bank", "nobody listens", sent=False),
        "no connection to unix:///run/bank: nobody listens; nothing happened: it is safe to retry",
    ),
    (
        TryAgainLater,
        LimitReached("connections_max", 2_000),
        "the limit connections_max=2,000 is reached: end something, or try again later",
    ),
    (
        TryAgainLater,
        LimitReached("cascade_bytes_max", 1_000),
        "the limit cascade_bytes_max=1,000 is reached by what follows from one command: let it send less, or raise the "
        "limit",
    ),
    (
        TryAgainLater,
        LimitReached("view_waiters_max", 10_000, held=5_000),
        "this connection has its share of the limit view_waiters_max=10,000: 5,000, and no more are left to all others; "
        "end something, or try again later",
    ),
    (MillstreamError, RemoteError(4_711, "no such luck"), "the server says (4711): no such luck"),
]

#: Every error with its values, by their names: what a program reads instead of the text.
FIELDS: list[tuple[MillstreamError, dict[str, object]]] = [
    (VersionConflict("ann", 3, 5), {"key": "ann", "expected": 3, "actual": 5}),
    (CommandIdReused("pay-7", "Deposit", 9), {"command_id": "pay-7", "command": "Deposit", "commit": 9}),
    (SnapshotMismatch("ledger", "why"), {"part": "ledger", "problem": "why"}),
    (
        ViewIncomplete("Balances", "BalanceOf", 12, 3, 1, "answer"),
        {"view": "Balances", "query": "BalanceOf", "position": 12, "parked": 3, "skipped": 1, "answer": "answer"},
    ),
    (EventsUnreadable("bank.db", "bank", []), {"log": "bank.db", "app": "bank", "events": []}),
    (AnswerTooLarge("Hold", 9, 8), {"command": "Hold", "size_bytes": 9, "answer_bytes_max": 8}),
    (AnswerUnreadable("Hold", "why", None), {"command": "Hold", "problem": "why", "receipt": None, "position": None}),
    (AgendaUnreadable("log", "app", {"A": 1}), {"log": "log", "app": "app", "commands": {"A": 1}}),
    (WrongShard("it", "why"), {"what": "it", "problem": "why"}),
    (WrongLoop("it", "one", "two"), {"what": "it", "opened_on": "one", "used_on": "two"}),
]


@pytest.mark.parametrize(("error", "fields"), FIELDS, ids=lambda value: type(value).__name__)
def test_an_error_keeps_its_values_as_fields_also_when_it_is_copied(
    error: MillstreamError, fields: dict[str, object]
) -> None:
    for each in (error, copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert {name: getattr(each, name) for name in fields} == fields
        assert str(each) == str(error)


@pytest.mark.parametrize(("branch", "error", "text"), TEXTS, ids=lambda value: type(value).__name__)
def test_an_error_says_the_thing_the_state_and_the_next_step(
    branch: type[MillstreamError], error: MillstreamError, text: str
) -> None:
    assert str(error) == text
    assert isinstance(error, branch)


def test_every_error_has_its_text_tested_and_its_place_in_the_tree_drawn() -> None:
    defined = {
        name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, MillstreamError)
    }
    branches = {"MillstreamError", "CallerError", "TryAgainLater", "StorageError", "AuthorError"}
    assert {type(error).__name__ for _, error, _ in TEXTS} == defined - branches
    assert all(f"─ {name}" in (errors.__doc__ or "") for name in defined - {"MillstreamError"})

"""Every error that millstream raises on purpose, split by who must act.

    MillstreamError
    ├── CallerError              the caller must change the request
    │   ├── Rejected                 the application's rules said no
    │   ├── InvalidMessage           a field has the wrong type, is out of bounds, or is not known
    │   ├── UnknownMessage           no handler, no view or no event of that name in this application
    │   ├── VersionConflict          the key is not at the version that the caller expected
    │   ├── CommandIdReused          the id belongs to another command
    │   ├── CommitTooLarge           one command's events exceed what a commit may hold
    │   ├── AnswerTooLarge           one command's answer exceeds what one may have
    │   ├── NotOnAgenda              nothing of that name is owed or parked
    │   ├── NotKept                  a view in a database has no such thing
    │   ├── WrongShard               of several logs, apart by key, this is not the one
    │   ├── NotAuthenticated         the server wants a token that it knows
    │   ├── NotPermitted             the token's role may not do this
    │   └── ProtocolViolated         what was sent is no request of the protocol
    ├── TryAgainLater            the same request may succeed later
    │   ├── Overloaded               the mailbox is full and the caller won't wait
    │   ├── DeadlineExceeded         the time given ran out
    │   ├── ViewBehind               too many queries already wait for this view
    │   ├── NotYetVisible            the view has not reached the position that the query asked for
    │   ├── WriterUnavailable        the writer can't decide: its state is not rebuilt yet, or it stopped
    │   ├── EngineClosed             the engine is not open (any more)
    │   ├── ViewUnavailable          a view's database can't be used now
    │   ├── WatchOverrun             a watcher of every change did not take them in time
    │   ├── WatchesFull              as many watches as are allowed are open
    │   ├── NotLeader                this process takes no commands, another one does
    │   ├── ConnectionLost           the server can't be reached, or went away
    │   └── LimitReached             a bound of the server is reached
    ├── StorageError             an operator must look at the store
    │   ├── CommitFailed             the commit was not written: nothing of it happened
    │   ├── OutcomeUnknown           the store failed and could not be asked whether the commit is there
    │   ├── LogCorrupt               what the store holds is not what was written
    │   ├── LogRefused               the store is not ours, from a newer format, or of another application
    │   ├── LogLocked                another writer has this log open
    │   ├── Fenced                   another writer has taken over: this one is stale
    │   └── CommitsLost              the store has lost commits that it had taken
    ├── AuthorError              the application's author must change its code
    │   ├── DefinitionError          a message, a model, a view or an app contradicts itself
    │   ├── HandlerFailed            a handler raised something that is not a rejection
    │   ├── ImpureHandler            a handler or an answer changed the state it may only read
    │   ├── ApplyFailed              a write model could not apply an event
    │   ├── AnswerFailed             a view raised while answering
    │   ├── AnswerUnreadable         a command stands, and its answer is none of today's type
    │   ├── ViewFaulted              a view could not apply an event and answers no more
    │   ├── SnapshotMismatch         a snapshot does not fit the state that it is to be restored to
    │   ├── ViewIncomplete           a view left out events that it could not apply, as its policy says
    │   ├── EventsUnreadable         the log holds events that today's application can't read
    │   ├── AgendaUnreadable         timers send commands that the application does not know
    │   └── WrongLoop                something is used on another event loop than it was opened on
    └── RemoteError              a server's error that this client does not know

Each keeps its values as fields and renders its text itself: the thing, the state, the limit, the next step.
"""

from millstream.engine.errors.author import (
    AgendaUnreadable,
    AnswerFailed,
    AnswerUnreadable,
    ApplyFailed,
    DefinitionError,
    EventsUnreadable,
    HandlerFailed,
    ImpureHandler,
    SnapshotMismatch,
    ViewFaulted,
    ViewIncomplete,
    WrongLoop,
)
from millstream.engine.errors.caller import (
    AnswerTooLarge,
    CommandIdReused,
    CommitTooLarge,
    InvalidMessage,
    NotAuthenticated,
    NotKept,
    NotOnAgenda,
    NotPermitted,
    ProtocolViolated,
    Rejected,
    UnknownMessage,
    VersionConflict,
    WrongShard,
)
from millstream.engine.errors.later import (
    ConnectionLost,
    DeadlineExceeded,
    EngineClosed,
    LimitReached,
    NotLeader,
    NotYetVisible,
    Overloaded,
    ViewBehind,
    ViewUnavailable,
    WatchesFull,
    WatchOverrun,
    WriterUnavailable,
)
from millstream.engine.errors.root import (
    AuthorError,
    CallerError,
    MillstreamError,
    RemoteError,
    StorageError,
    TryAgainLater,
)
from millstream.engine.errors.storage import (
    CommitFailed,
    CommitsLost,
    Fenced,
    LogCorrupt,
    LogLocked,
    LogRefused,
    OutcomeUnknown,
)

__all__ = [
    "AgendaUnreadable",
    "AnswerFailed",
    "AnswerTooLarge",
    "AnswerUnreadable",
    "ApplyFailed",
    "AuthorError",
    "CallerError",
    "CommandIdReused",
    "CommitFailed",
    "CommitTooLarge",
    "CommitsLost",
    "ConnectionLost",
    "DeadlineExceeded",
    "DefinitionError",
    "EngineClosed",
    "EventsUnreadable",
    "Fenced",
    "HandlerFailed",
    "ImpureHandler",
    "InvalidMessage",
    "LimitReached",
    "LogCorrupt",
    "LogLocked",
    "LogRefused",
    "MillstreamError",
    "NotAuthenticated",
    "NotKept",
    "NotLeader",
    "NotOnAgenda",
    "NotPermitted",
    "NotYetVisible",
    "OutcomeUnknown",
    "Overloaded",
    "ProtocolViolated",
    "Rejected",
    "RemoteError",
    "SnapshotMismatch",
    "StorageError",
    "TryAgainLater",
    "UnknownMessage",
    "VersionConflict",
    "ViewBehind",
    "ViewFaulted",
    "ViewIncomplete",
    "ViewUnavailable",
    "WatchOverrun",
    "WatchesFull",
    "WriterUnavailable",
    "WrongLoop",
    "WrongShard",
]

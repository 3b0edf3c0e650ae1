"""Proves that nothing acknowledged is lost: kills processes and tears files. ``python -m millstream.bench torture``.

Goals: to kill a busy engine at random moments, many times, and to find every command that was acknowledged in the log
afterwards, once, where its receipt said; to open copies of a log's files as a crash could have left them, and to find
in them all that was acknowledged by then; to be a program that anybody can run on a machine and a disk of theirs.

Non-goals: the moment between a write and its fsync. What a killed process has written is still in the operating
system's cache, so no kill shows whether the disk has it. The torn images stand for that: whatever was not synced may be
cut off, zeroed or garbage after a power failure. A disk that lies about an fsync is found by pulling the plug, only.

Method:

- Each round runs a bank in a process of its own, on a log that grows from round to round. Many callers execute
  deposits, transfers that touch two accounts and lead to a charge by a reaction, which fails for some, and to a
  settlement by a timer that the charge sets, and whole lists of commands, and ask for what they have just written. For
  some transfers, and some settlements, a bill is sent, by a service outside, which no kill touches: it answers at once
  or late, or fails after it has done what it was asked for, once or always; and what came of it is accepted, refused,
  or can't be decided. The process says through a pipe what was acknowledged, after `execute` has returned; what it did
  not get to say before it died counts as not acknowledged.
- A round ends with SIGKILL: at any moment since the process began, while opening (a new log, too), under load, while
  closing. Some end with SIGTERM. Some stop the process for a moment before. In some nothing can be written any more in
  the last moments, as with a disk that has stopped to answer, and in some the kill comes with an answer: what was
  acknowledged or shown too early is found then. In some it comes as soon as the service was called, of which no log
  knows yet. In some a second process wants the same log, and must be refused. In some a thread checkpoints all the
  time, so that the kill falls into a checkpoint. In some the next process sends commands again whose answer did
  not arrive, and some whose answer did: each may be in the log once. With ``--format-1`` each log is one of millstream
  0.1, and its first process sends what is in it already.
- Then the log is opened, in its place or as a copy (so that the next process has to recover it), and read by plain
  sqlite3. Numbers and digests are verified on those rows; each command has the events that it yields; the balances that
  the engine's view and its write model hold, from snapshots and log, must be those that a loop over the raw JSON finds.
- Each effect that the log owes must be settled once, by one commit that holds what came of it, in its turn. The service
  must have been called for it before, under the id that follows from the log; and for nothing that no durable commit
  owes. It may be called more than once for one effect, always under one id. At the end of each log an engine finishes
  what is left: then nothing may be owed any more, and no timer may wait.
- Images: a copy of the files taken while the process is stopped is what a crash of the process leaves. A part of the
  WAL's copy is then cut off, zeroed or made garbage from a random byte on. It must open to the first commits of the
  log, byte for byte, with everything that lay wholly before the tear; where the main file could hold checkpointed pages
  of what the tear destroyed, which no crash leaves, `LogCorrupt` or `LogRefused` will do. Then the bank goes on from
  each, with a service that has seen what it had seen by that moment: what this log owes is performed, and of what the
  tear took no id is given again.
- Everything random comes from one seed: which rounds, which moments. The moments themselves are the machine's: a seed
  repeats the plan, not the run.

Rooms: `plan` (what is done when), `work` (the commands), `reports` (what a child says), `check`, `effects` and `wal`
(what must hold) are pure. `service` is what lies outside. `child`, `process`, `rounds`, `images` and `run` do it, and
`show` and `command` are for people.
"""

__all__: list[str] = []

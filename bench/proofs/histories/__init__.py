"""Proves consistency from outside: ``python -m millstream.bench histories`` kills servers and checks what clients saw.

Goals: to let many clients work on a few accounts through the socket, to kill the server under them again and again, and
to decide from what they were answered, and when, whether all of it could have come from one bank that does one thing at
a time: that their histories are linearizable, commands and questions with tokens. To be sure that a checker which finds
nothing would find something: it is tested on histories that are wrong, and against brute force, and the whole program
on servers that lie.

Non-goals: what the log holds byte for byte, and torn files (`millstream.bench.proofs.torture`); speed.

Method:

- A server process runs the bank on SQLite and listens on a Unix socket and on TCP; with ``--replica`` another process
  follows the log, answers questions and forwards commands. Each ends with SIGKILL, at moments that a seed chooses: at
  any time, at the very moment at which a client gets an answer, while it opens the log again. Some are stopped for a
  while before. It comes back on the same addresses.
- The clients are `millstream.engine.client.Client`: they come back by themselves, and send commands again under their
  ids. Some commands have no id, and some hardly any time, so that it stays open what became of them. Deposits,
  withdrawals that may be refused, and questions meet on four accounts at a time. A question is asked after the newest
  position that any client knows; `clients` says why that makes it linearizable.
- With ``--format-1`` the log is one of millstream 0.1, and the first server upgrades it. What lies in it is how every
  history begins: versions and balances go on from there. Clients send its commands again under their ids, all the time
  and across crashes, and each must get the receipt of the place where 0.1 had put it.
- All is recorded by one process with one clock. Then every account's history is searched for an order in which all is
  right (`linear`), knowing nothing of the log; and held, with the positions that receipts, refusals and answers carry,
  against the log, which is read by plain sqlite3 (`by_position`).
- What can't be decided within a limit counts as wrong, and so does a run in which nothing happened.

Rooms: `accounts` (the bank), `spec` (what its clients are promised), `operations`, `beginning`, `linear`,
`by_position` and `plan` are pure. `child`, `process`, `record`, `clients` and `run` do it, `show` and `command` are for
people.
"""

__all__: list[str] = []

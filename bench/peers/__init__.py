"""Peers: other libraries and servers that keep events, put to the same bank, each as its own documentation says.

DBOS stands among them and keeps no events, but which workflows were begun and what came of them.

What is compared: accounts are opened, then deposits are made under the rule that the account must be open, each durable
before it is acknowledged. At the end every event is read back through the peer's own interface, and the balances must
be those that the deposits add up to. How fast that was is shown too: to rebuild a projection is that, and little else.

Who is favoured where there is a choice: the peer.

- Each gets as many callers at once as it does best with, and no queue before it: a library that is fastest in one
  thread is called by one, in a plain loop. The figure says how many there were.
- Each may remember that an account is open, as it may be opened by no other here: no query before each deposit.
- Each has the settings that its documentation names for speed, except those that give up what it promises.
- They do fewer commands than the engine, which would be done too early to measure, and the slowest the fewest: rates
  are compared.

What each is, and how it is made durable, stands in `millstream.bench.programs`, and in each module here, why. Redis is
beside them with the programs of `millstream.bench.socket`: it keeps values, not events, and nothing is decided there,
so ``SET`` is less work than a deposit.

A peer's module imports the peer, and is loaded only to run it. What it uses of the peer is written down at its top, for
type checkers: none of this needs to be installed for that. To add one: such a module with a function ``run``, a line in
`programs`, an `Entry` in `figures`, and its package in the dependency group ``peers``.
"""

__all__: list[str] = []

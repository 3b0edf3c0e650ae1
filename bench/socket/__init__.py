"""The engine behind a socket, beside Redis: requests a second over the loopback interface, and how long each takes.

What is compared: a deposit that is durable with ``SET`` and ``appendfsync always``, a question with ``GET``; the same
connections, the same requests in flight, keys drawn from as many. Redis is measured with its own benchmark. A command
goes through validation, a rule, a log of events and a view; a ``SET`` replaces a value: the ratio says what that costs.

How the load is put: as ``redis-benchmark`` does it. Each connection sends so many requests at once, waits for all of
their replies, and sends the next. Latency counts from sending to the arrival of each reply; ``redis-benchmark`` stops
its clock for all of them when the first arrives, so where more than one is in flight its latencies are the kinder ones.

Why the load is not what is measured: it runs in a process of its own (`load`), and everything is encoded before and
checked after the clock. Each figure shows how many cores load and server kept busy; a load that idles was not the
limit. `echo` shows what sockets and load reach with a server that does nothing, and the same load on Redis shows
whether it gets out of it what Redis' own benchmark gets.

What is checked, of every request: that its reply came on its connection and carries its id; that it is a receipt, whose
position no other has, or the right answer. The balances at the end are those that the deposits add up to, asked over
the socket and read from the file.

Replicas are measured here, too: `replicas` says how, on a machine that has no core to spare for the load.
"""

__all__: list[str] = []

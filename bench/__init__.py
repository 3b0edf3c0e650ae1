"""The benchmark harness: workloads, limits, and what they say about a machine. Run it: ``millstream bench``.

Goals: to show what the engine does on this machine, each figure beside the limit that it could at best reach, in the
same run; to show plainly what is missed; to be a program that anybody can run, read and disagree with.

Non-goals: a comparison of machines; the cost of handlers that do real work; the network beyond the loopback interface;
many cores (one event loop uses one). A single figure says little, the ratio of two from one run says more.

Method:

- Each contender runs in a fresh process with a directory of its own, warms up first, and works on the same commands,
  made from a fixed seed before the clock starts. The garbage collector stays on, as it is in a user's program; where
  a figure says ``gc.freeze()``, what was there after warming up was set aside from it, as a server may do.
- Several runs, interleaved (A B A B), so that a slow minute of the machine falls on all. The median is reported, with
  the lowest and the highest; a ratio is the median of the ratios within each run.
- Throughput is measured in a closed loop: each caller waits for its receipt before it sends the next command. Latency
  is measured in an open loop: commands and questions have a schedule, and the time counts from the moment that it
  says, so a stall of the event loop counts for all that fell into it (no coordinated omission).
- Durability is the same for all that claim it: SQLite, WAL, ``synchronous=FULL``, an fsync before anybody is answered.
  The report says for each contender what it makes durable, and names the filesystem that it was measured on.
- Contenders with the same workload prove that they did the same work: a hash of the balances, read back from the file
  with plain SQL where there is a file, must be the same for all, and the same as what was answered from memory.
  Otherwise the run fails.

Bias: the one who wrote the engine wrote the minimum and the limits too, and the workload (small commands, one event
each, a cheap rule) suits an engine whose cost is per commit. Drivers and contenders share one process and one
interpreter lock, so the callers' own cost is in every figure; not so over sockets, where the load is a process of its
own (`millstream.bench.socket` says how).

To add a workload: a line in `workload`, a `Figure` in `figures`. To add a contender: a function in a module of its own
and a line in `programs`; a system that takes commands needs only the adapter that `systems` describes.
"""

__all__: list[str] = []

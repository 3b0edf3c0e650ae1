"""What the engine does on this machine, in minutes and in one table: ``millstream bench quick``.

Goals: five minutes at most, on two cores; a table for readers who have read nothing else.

Non-goals: figures to keep, goals, other questions. All figures are `millstream.bench.figures`.

Method: that of the harness. The contenders are entries of the full figures, so programs and workloads are theirs; the
workloads are smaller (`millstream.bench.workload`, ``quick``). Three runs, interleaved, each in a fresh process.

Rooms: `questions` (the table of what is measured), `words` (pure), `estimate` (how long it will still take), and
`command` and `show` for people.
"""

__all__: list[str] = []

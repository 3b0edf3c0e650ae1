"""A user's own application and commands, measured as the engine is: ``python -m millstream.bench run APP``.

Commands are JSON, one a line, as ``millstream execute -`` takes them. They are executed durably, by as many callers as
you like, on a new log in a folder of your choice, in a fresh process for each run. What comes of it: commands a second,
latencies, what was refused and why, bytes per event on disk, and how fast the log is replayed when it is opened.

Callers take the commands in the order of the file, so that they are decided in that order. In a closed loop each
waits for its receipt before it takes the next; with ``--rate`` commands come on a schedule, and what they wait counts.
"""

__all__: list[str] = []

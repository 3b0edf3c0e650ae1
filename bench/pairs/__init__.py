"""Two versions of the engine, run in pairs: ``millstream bench compare OLD NEW``. Which one needs less of the loop?

Goals: to see a difference of 3 %, on a machine that is shared and noisy, between two checkouts, two commits, or one
commit with two set-ups; to say so only when the run can tell.

Non-goals: how fast anything is, and the disk. The log is in memory, and what is compared is a ratio.

Method: a run is a process of its own. It does one workload and says how much CPU time its loop's thread took for it
(``time.thread_time``), which other programs disturb less than the wall. Three runs make a pair: OLD, NEW, and OLD
again, in an order that turns from pair to pair. The figure is the median of the pairs' ratios OLD ÷ NEW: above 1, NEW
is quicker. OLD ÷ OLD again is the control. Where its median is not within 1 ± 0.015, the run tells nothing.
The best of each side would be no figure: of 30 runs of one version against itself it has shown a loss of 6 %.

Rooms: `work` (what is measured; the one module that runs on either version), `ratios` (pure), `tree` (from a checkout
or a commit to something that can be imported), `run`, and `command` and `show` for people.
"""

__all__: list[str] = []

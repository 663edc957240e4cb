"""Compare targets in one session: same work, same cores, interleaved rounds, every answer checked.

`scenarios` says what is asked, as data; `session` starts the simulated provider and the targets and runs
the rounds; `figures` turns what was seen into medians and the ratios that the project promises; `table`
prints them.

A figure within 10 % of what the harness itself reaches without any target says more about the harness
than about the target.  Such a figure is marked, and ratios that need it are taken per CPU-second of the
targets instead.
"""

"""Compare targets in one session: same work, same cores, interleaved rounds, every answer checked.

`scenarios` is the vocabulary of what is asked, `suite` reads it from TOML; `session` starts the simulated
`provider` (over TLS with a `certificate`) and the targets (`arms`), makes `plans` of scenarios and runs the
rounds; `comparison` is all that was seen, `verdicts` what sums tell of a target's honesty, `figures` medians,
`goals` what the project promises and how much of it was shown; `table` prints them, `progress` tells how far
it is, `command` is the command line.  `machine` is what it ran on, `awake` keeps cores from sleeping if asked
to.

A figure within 10 % of what the harness itself reaches without any target says more about the harness than
about the target, and so does one that was reached with the harness's cores busy and the target's not.  Such a
figure is marked, and ratios that need it are taken per CPU-second of the targets instead.
"""

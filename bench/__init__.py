"""The load harness: what Karta's speed is measured with, and what anybody's endpoint can be.

`sim` is the simulated provider, `load` the load generator, `relay` the floor (bare Trio, no governance),
`naive` the baseline of an afternoon, `targets` what can be compared and how it is installed and started,
`scenarios` the ready-made suites (as data), `compare` one comparison from start to table, `report` what is
left of it, `capacity` what a size of installation needs, `command` the command line, `keys` where the keys of
targets come from.  Each program runs in processes of its own
(`process`), pinned where there are cores enough, watched by `process_watch`, and gone when the harness
is gone.

asyncio and uvloop are used here, in processes of their own, and nowhere else in Karta.
"""

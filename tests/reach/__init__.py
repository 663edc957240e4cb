"""How far one machine goes: programs that put Karta under a load for seconds or minutes, print figures, and
fail when one is not what it must be.

`tox -e capacity`, `flood` and `soak` run them, alone on the machine; each takes `--help`. Among the other
tests they run small and for seconds, to show that they work: then only what no busy machine can change is
asserted.

`hosts` is of another kind: several hosts, and what a network may do to them (`tox -e hosts`, by itself only).
"""

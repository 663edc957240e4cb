"""The faults that Karta survives, each driven against real processes on loopback.

`tox -e faults` drives them in full and prints a table of fault and figure. Among the other tests they run as
well, smaller and with deadlines instead of the figures, since a machine that does many things at once has no
figures to speak of.
"""

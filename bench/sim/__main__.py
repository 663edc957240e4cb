"""`python -m bench.sim`."""

import sys

from bench.sim.command import run

sys.exit(run())

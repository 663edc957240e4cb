"""Run one plan against a script in this process, and give the tally."""

import msgspec
import uvloop

from bench.load.plan import LoadPlan
from bench.load.tally import Tally
from bench.load.worker import Parent, run_plan
from tests.bench.scripted_server import Script, scripted_server


def plan_for(base_url: str, **changes: object) -> LoadPlan:
    """A short plan; `changes` are its fields."""
    quick = LoadPlan(base_url=base_url, keys=["k"], warmup_seconds=0.0, seconds=0.1, answer_seconds_max=5.0)
    return msgspec.structs.replace(quick, **changes)


def tally_of(plan: LoadPlan) -> Tally:
    tally = Tally()
    tally.add(uvloop.run(run_plan(plan, Parent())))
    return tally


def tally_against(script: Script, **changes: object) -> Tally:
    """Run a short plan against the script."""
    with scripted_server(script) as server:
        return tally_of(plan_for(server.base_url, **changes))

"""The program: see the package."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import trio

from storage.bridge import open_database
from tests.reach.hosts import disasters, scenarios
from tests.reach.hosts.site import DATABASE, Site
from tests.reach.hosts.stage import Stage
from tests.reach.hosts.world import FOLDER, enter

SCENARIOS = {
    "revocation": (scenarios.a_revocation_spreads, 120),
    "cable": (scenarios.a_host_without_its_database_is_told_late, 120),
    "half-open": (scenarios.half_open, 300),
    "budgets": (disasters.budgets_hold, 300),
    "lock": (disasters.a_lost_host_leaves_a_lock, 120),
    "restarts": (disasters.hosts_are_restarted, 300),
    "admin": (scenarios.the_admin_host_is_lost, 120),
    "database": (disasters.the_database_host_is_lost, 120),
}


async def run(names: list[str], workers: int) -> None:
    folder = Path(FOLDER) / "site"
    folder.mkdir(mode=0o755)
    site = Site(folder, workers)
    stage: Stage | None = None
    try:
        await site.start()
        async with open_database(site.database.url(DATABASE), role=None, query_seconds_max=30) as db:
            stage = Stage(site, db)
            await stage.prepare()
            for name in names:
                scenario, seconds_max = SCENARIOS[name]
                await stage.run(scenario, seconds_max)
            await stage.run(disasters.usage_is_complete, 120)
    except BaseException:
        for log, said in site.logs().items():
            print(f"--- {log}\n{said}", file=sys.stderr)
        raise
    finally:
        if stage is not None:
            print_table(stage)


def print_table(stage: Stage) -> None:
    width = max((len(figure.what) for figure in stage.figures), default=0)
    scenario = ""
    for figure in stage.figures:
        if figure.scenario != scenario:
            scenario = figure.scenario
            print(f"\n{scenario}")
        print(f"  {figure.what:{width}}  {figure.value}")


def main() -> None:
    made = argparse.ArgumentParser(prog="python -m tests.reach.hosts", description=__doc__)
    made.add_argument("--only", nargs="+", choices=SCENARIOS, default=list(SCENARIOS), metavar="NAME")
    made.add_argument("--workers", type=int, default=2, help="of each gateway")
    given = made.parse_args()
    enter(sys.argv[1:])
    try:
        trio.run(run, given.only, given.workers)
    except BaseExceptionGroup as group:
        # A failed assertion comes out through several nurseries: told as what it is.
        if (failed := group.subgroup(AssertionError)) is None:
            raise
        sys.exit(f"not reached: {first(failed)}")
    except AssertionError as error:
        sys.exit(f"not reached: {error}")


def first(group: BaseException) -> BaseException:
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group


if __name__ == "__main__":
    main()

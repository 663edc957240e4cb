"""The capacity model against a run: `python -m tests.reach.predicted`, alone on the machine.

One worker holds `--idle` silent streams open and answers `--rate` requests a second; meanwhile it is measured
what of it the model foretells: CPU and memory of the worker, and rows, log and CPU of the database. Printed
are both and their ratio. Ratios of CPU are of the machine, too: what one says is how far the figures of
`bench/capacity/coefficients.toml` are this machine's, and with which to replace them (`--coefficients`).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import trio

from bench.capacity.coefficients import read_coefficients, values_of
from bench.capacity.model import plan
from bench.capacity.tables import told
from bench.capacity.target import Target
from bench.load.run import streams_held
from bench.process_watch import cpu_seconds, resident_bytes
from storage.bridge import Database, open_database
from tests.gateway.conftest import Tenant
from tests.reach.stand import Stand, main, stand, tell

SETTLE_SECONDS = 3.0
"""Until what was begun before is shipped: journals are, twice a second."""
RATIO_MAX = 2.0
"""Between what was foretold and what was seen, either way, of what no other machine changes."""


async def measure(tenant: Tenant, folder: Path, given: argparse.Namespace) -> None:
    figures = values_of(read_coefficients(given.coefficients))
    async with (
        stand(tenant, folder, workers=1, KARTA_BETWEEN_BYTES_SECONDS="600") as made,
        open_database(tenant.database_url, role=None, connections_max=1) as db,
    ):
        base = resident_bytes(made.pids())
        limits = await db.fetch_value("SELECT count(*) FROM limits WHERE removed_at IS NULL")
        seen = await run(made, db, given)
    target = Target(
        streams=given.idle,
        requests_per_second=seen["usage rows a second"],
        events_per_second=0,
        orgs=1,
        keys_each=1,
        limits_each=limits,
        models_each=1,
        changes_per_second=0,
        pages_per_second=0,
        tls=False,
    )
    found = plan(target, figures)
    foretold = {
        "CPU of the worker": found.worker_cores,
        "memory of the worker": found.gateway_bytes,
        "CPU of the database": sum(found.database_cores.values()),
        "write-ahead log": found.log_bytes_per_second,
        "bytes of a stream": figures["stream_bytes"],
        "bytes of an idle worker": figures["worker_bytes"],
    }
    seen |= {"bytes of a stream": seen["grown"] / given.idle, "bytes of an idle worker": base}
    tell("asked for, and done", f"{given.rate:.0f} and {seen['usage rows a second']:.0f} requests/s")
    units = {"CPU of the worker": "cores", "CPU of the database": "cores", "write-ahead log": "bytes/s"}
    for name, amount in foretold.items():
        unit = units.get(name, "bytes")
        ratio = seen[name] / amount
        tell(name, f"foretold {told(amount, unit)}, measured {told(seen[name], unit)}: {ratio:.2f}")
        if given.assert_figures and unit == "bytes":
            assert 1 / RATIO_MAX <= ratio <= RATIO_MAX, f"{name}: {ratio:.2f} of what was foretold"


async def run(made: Stand, db: Database, given: argparse.Namespace) -> dict[str, float]:
    """Put the load on, and tell what it came to, by the second where it is CPU, rows or log."""
    pids = made.pids()
    empty = resident_bytes(pids)
    held_plan = made.plan(
        "tokens=4,hang_after=3",
        stream=True,
        connections=given.idle,
        driver="hold",
        answer_seconds_max=120.0,
    )
    async with streams_held(held_plan, directory=made.folder) as (held, tally):
        assert (held, tally.failed) == (given.idle, 0), f"streams were lost: {tally.examples}"
        grown = resident_bytes(pids) - empty
        await trio.sleep(SETTLE_SECONDS)
        sessions = await database_pids(db)
        idle, idle_database = cpu_seconds(pids), cpu_seconds(sessions)
        await trio.sleep(SETTLE_SECONDS)
        tell(
            "CPU while nobody asks",
            f"worker {(cpu_seconds(pids) - idle) / SETTLE_SECONDS:.4f} cores, "
            f"database {(cpu_seconds(sessions) - idle_database) / SETTLE_SECONDS:.4f}",
        )
        before = await counts(db)
        cpu, database, began = cpu_seconds(pids), cpu_seconds(sessions), trio.current_time()
        load = made.plan(
            "tokens=60", driver="open", rate_per_second=given.rate, connections=64, seconds=given.seconds
        )
        result = await made.load(load)
        seconds = trio.current_time() - began
        cpu, resident = cpu_seconds(pids) - cpu, resident_bytes(pids)
        await trio.sleep(SETTLE_SECONDS)
        after = await counts(db)
        database = cpu_seconds(sessions) - database
    assert not result.tally.failed, result.tally.examples
    return {
        "grown": grown,
        "CPU of the worker": cpu / seconds,
        "memory of the worker": resident,
        "CPU of the database": database / seconds,
        "usage rows a second": (after[0] - before[0]) / seconds,
        "write-ahead log": (after[1] - before[1]) / seconds,
    }


async def counts(db: Database) -> tuple[int, int]:
    """How many usage rows there are, and how far the log has come."""
    row = await db.fetch_row(
        """
        SELECT (SELECT count(*) FROM usage) AS stored,
               (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint AS log
        """
    )
    assert row is not None
    return int(row["stored"]), int(row["log"])


async def database_pids(db: Database) -> list[int]:
    """The sessions of the gateway."""
    rows = await db.fetch("SELECT pid FROM pg_stat_activity WHERE application_name = 'karta karta_gateway'")
    return [row["pid"] for row in rows]


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--idle", type=int, default=2000, help="streams to hold open")
    made.add_argument("--rate", type=float, default=1000.0, help="requests a second meanwhile")
    made.add_argument("--seconds", type=float, default=20.0)
    made.add_argument("--coefficients", type=Path, help="your own figures")
    made.add_argument("--no-assert", dest="assert_figures", action="store_false", help="only print figures")
    return made


if __name__ == "__main__":
    main(measure, parser())

"""What the audit log stands: `python -m tests.audit_load`, or `tox -e audit-load`.

Fifty writers in one organization for some seconds, with a disk that must keep what it confirms, each a
transaction with one other statement and one audit row; then the proof of all there is. Then a million rows,
written in a way no program could, are proved, and exported in constant memory. Figures, and a failure where a
chain is broken, a writer meets a deadlock, or a figure is under a tenth of what is meant.
"""

from __future__ import annotations

import argparse
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from uuid import UUID

import trio

from storage.audit_chain import ChainReport, verify_chain
from storage.audit_export import Format, encode_rows
from storage.audit_search import Wanted, go_through
from storage.bridge import Database, open_database
from storage.migrate import migrate
from tests.support import postgres
from tests.support.postgres import PROGRAMS, PostgresServer, running_server

ORG = UUID(int=7)
WRITERS = 50
PROGRESS_SECONDS = 5
ACTIONS_A_SECOND = 1000
ROWS_A_SECOND = 200_000
COLUMNS = "org_id, event, actor_kind, actor_id, subject, address, user_agent, request_id, details"


def values(org_id: UUID) -> str:
    """One row's, as SQL."""
    return (
        f"'{org_id}', 'api_key' || chr(58) || 'minted', 'user', '0a8a4f5c-1111-2222-3333-444444444444',"
        " 'abcdefghijklmnop', '192.0.2.7', 'Mozilla/5.0 (X11; Linux x86_64) Chrome/141.0.0.0', 'req-1234567',"
        ' \'{"name": "a key", "mode": "live"}\''
    )


VALUES = values(ORG)
INSERT = f"INSERT INTO audit_log ({COLUMNS}) VALUES ({VALUES})"
ACTION = f"BEGIN;\nUPDATE one SET n = n WHERE k = 0;\n{INSERT};\nCOMMIT;\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--rows", type=int, default=1_000_000)
    given = parser.parse_args()
    for setting in ("fsync", "synchronous_commit", "full_page_writes"):
        postgres._SETTINGS[setting] = "on"
    postgres._SETTINGS["shared_buffers"] = "512MB"
    postgres._fast_folder = lambda: None
    with running_server() as server:
        server.sql("CREATE DATABASE load")
        trio.run(migrate, server.url("load"))
        _write(server, given.seconds)
        _fill(server, given.rows)
        trio.run(_read, server.url("load"))


def _write(server: PostgresServer, seconds: int) -> None:
    server.sql("CREATE TABLE one AS SELECT 1 AS k, 1 AS n", "load")
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "action.sql"
        script.write_text(ACTION)
        command = [str(PROGRAMS / "pgbench"), "-n", "-c", str(WRITERS), "-j", "2", "-T", str(seconds)]
        command += ["-P", str(PROGRESS_SECONDS), "-f", str(script), server.url("load")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    figures = [line for line in done.stdout.splitlines() if line.startswith(("tps", "latency average"))]
    print(f"{WRITERS} writers in one organization for {seconds} s: {'; '.join(figures)}")
    steps = [float(tps) for tps in re.findall(r"progress: .* s, ([\d.]+) tps", done.stderr)]
    if steps:
        print(f"  each {PROGRESS_SECONDS} s: {min(steps):.0f} at least, {max(steps):.0f} at most")
    deadlocks = server.sql("SELECT sum(deadlocks) FROM pg_stat_database", "load").strip()
    print(f"  deadlocks: {deadlocks}")
    if done.returncode or deadlocks != "0":
        sys.exit(done.stderr)
    rate = float(figures[-1].split()[2])
    if rate < ACTIONS_A_SECOND / 10:
        sys.exit(f"{rate:.0f} actions a second are far from {ACTIONS_A_SECOND}")
    report = trio.run(_verify, server.url("load"))
    print(f"  the chain of {report.rows:,} rows is {'intact' if report.intact else report.problem}")
    if not report.intact:
        sys.exit(1)


def _fill(server: PostgresServer, rows: int) -> None:
    """By many short transactions, since a chain's head is versioned within one."""
    loop = f"""
        DO $$ BEGIN FOR i IN 1..{rows // 500} LOOP
            INSERT INTO audit_log ({COLUMNS}) SELECT {VALUES} FROM generate_series(1, 500);
            COMMIT;
        END LOOP; END $$
    """
    began = time.perf_counter()
    server.sql(loop, "load")
    server.sql("VACUUM ANALYZE audit_log", "load")
    print(f"filled {rows:,} rows in {time.perf_counter() - began:.0f} s")


async def _verify(url: str) -> ChainReport:
    async with open_database(url, role="karta_admin") as db:
        return await verify_chain(db, ORG)


async def _read(url: str) -> None:
    async with open_database(url, role="karta_admin") as db:
        for _ in range(2):
            began = time.perf_counter()
            report = await verify_chain(db, ORG)
            rate = report.rows / (time.perf_counter() - began)
            print(f"verify: {report.rows:,} rows at {rate:,.0f} rows/s, intact: {report.intact}")
        if not report.intact or rate < ROWS_A_SECOND / 10:
            sys.exit(1)
        for form in Format:
            await _export(db, form, report.head_seq)


async def _export(db: Database, form: Format, until: int) -> None:
    began, before, size, count = time.perf_counter(), _memory(), 0, 0
    async for rows in go_through(db, ORG, Wanted(), until):
        size += len(encode_rows(form, rows))
        count += len(rows)
    rate = count / (time.perf_counter() - began)
    grown = _memory() - before
    print(f"{form.value}: {count:,} rows, {size / 1e6:.0f} MB at {rate:,.0f} rows/s; memory +{grown} MB")


def _memory() -> int:
    """The most this process ever took, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    main()

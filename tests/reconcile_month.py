"""A simulated month of a million requests, charged as it goes, and reconciled: `tox -e reconcile`.

Five organizations on three plans, two of them paying in advance. Requests go up with the platform's keys and
with their own, some with test keys; they come by COPY in the order of their time, some batches twice, some
requests late; hours are charged and months turn meanwhile, by two at a time. At the end requests, sums,
ledger and prepaid credit must agree to the picodollar: it fails on any difference, and prints the times.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import trio

from storage import ledger
from storage.bridge import Database, open_database
from storage.migrate import migrate
from storage.model import Actor, ActorKind, CredentialKind, Organization, Plan, UsageRecord
from storage.organizations import create_organization
from storage.reconciliation import reconcile
from storage.usage_charges import charge_usage, set_prepaid, turn_month
from storage.usage_rows import COLUMNS, LATE_PREFIX, ingest
from tests.storage.ledger_posts import select_accounts, top_up
from tests.storage.usage_records import insert_usage, usage
from tests.storage.usage_tuples import encode_tuple
from tests.support.postgres import running_server

ACTOR = Actor(kind=ActorKind.SYSTEM, actor_id="reconcile")
BEGINS = datetime(2026, 3, 1, tzinfo=UTC)
ENDS = datetime(2026, 4, 1, tzinfo=UTC)
POSTGRES_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
KINDS = [CredentialKind.PLATFORM] * 6 + [CredentialKind.BYOK] * 3 + [CredentialKind.SIMULATED]
TEMPLATES = 2000
"""Distinct rows that are made in Python; the others differ from them in id and time."""
LATE_SHARE = 500
"""One in so many is learnt of days later."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--batch", type=int, default=10_000)
    given = parser.parse_args()
    with running_server() as server:
        server.sql("CREATE DATABASE month")
        trio.run(run_month, server.url("month"), given.rows, given.batch)


async def run_month(url: str, rows: int, batch: int) -> None:
    """Raises SystemExit on a difference."""
    await migrate(url)
    async with (
        open_database(url, role="karta_admin") as admin,
        open_database(url, role="karta_gateway", connections_max=1) as gateway,
    ):
        orgs = await _make_organizations(admin)
        began = time.perf_counter()
        charged = await _use(admin, gateway, orgs, rows, batch)
        used_seconds = time.perf_counter() - began
        began = time.perf_counter()
        report = await reconcile(admin, BEGINS, ENDS + timedelta(days=1), now=ENDS + timedelta(days=2))
        seconds = time.perf_counter() - began
        for one in report.differences[:20]:
            print(one)
        print(
            f"{report.requests:,} requests, {report.billable_requests:,} of them billable, shipped and "
            f"charged ({charged:,} postings) in {used_seconds:.1f} s; reconciled in {seconds:.1f} s: "
            f"{report.difference_count} differences"
        )
        entries = [await select_accounts(admin, org.org_id) for org in orgs]
        posted = sum(accounts.get(ledger.Account.USAGE, 0) for accounts in entries)
        if not report.agrees or posted != report.billable_picodollars or not posted:
            sys.exit(1)


async def _make_organizations(admin: Database) -> list[Organization]:
    orgs = [
        await create_organization(admin, ACTOR, name=f"Org {number}", plan=plan)
        for number, plan in enumerate([Plan.FREE, Plan.PRO, Plan.PRO, Plan.ENTERPRISE, Plan.ENTERPRISE])
    ]
    for org in orgs[1:3]:
        async with admin.transaction() as tx:
            await top_up(tx, org.org_id, 1000 * 10**12, f"stripe:evt_{org.org_id}")
        await set_prepaid(admin, ACTOR, org.org_id, True)
    return orgs


def _make_templates(choose: random.Random, orgs: list[Organization]) -> list[tuple[bytes, bytes]]:
    """Rows in COPY's form, cut where id and time go."""
    made = []
    for _ in range(TEMPLATES):
        cost = choose.randint(1, 10**9)
        kind = choose.choice(KINDS)
        model = choose.choice(["claude-fable-5", "claude-opus-5", "gpt-6", "gpt-6-mini"])
        record = usage(
            org_id=choose.choice(orgs).org_id,
            key_id=f"key{choose.randrange(20):09}",
            credential_kind=kind,
            model_asked=model,
            model_answered=f"{model}-2026",
            input_tokens=choose.randint(1, 50_000),
            cost_picodollars=None if choose.random() < 0.01 else cost,
            charged_picodollars=cost,
        )
        encoded = encode_tuple(record)
        made.append((encoded[:6], encoded[34:]))
    return made


async def _use(admin: Database, gateway: Database, orgs: list[Organization], rows: int, batch: int) -> int:
    """Ships and charges the month; returns how many postings there were."""
    choose = random.Random(1)
    templates = _make_templates(choose, orgs)
    span = ENDS - BEGINS
    owner, charged = uuid4(), 0
    late: list[datetime] = []
    for start in range(0, rows, batch):
        tuples = bytearray()
        for number in range(start, min(start + batch, rows)):
            moment = BEGINS + span * number / rows
            if number % LATE_SHARE == 0:
                late.append(moment)
                continue
            head, tail = choose.choice(templates)
            micros = (moment - POSTGRES_EPOCH) // timedelta(microseconds=1)
            tuples += head + os.urandom(16) + b"\0\0\0\x08" + micros.to_bytes(8, "big") + tail
        for _ in range(1 + (choose.random() < 0.1)):
            await ingest(gateway, owner, tuple(COLUMNS), bytes(tuples))
        # The requests before the last batch have ended; of these some are learnt of now.
        learnt, late = late[:-20], late[-20:]
        await insert_usage(gateway, [_late_row(choose, orgs, moment) for moment in learnt], owner)
        charged += await _charge(admin, BEGINS + span * min(start + batch, rows) / rows)
    await insert_usage(gateway, [_late_row(choose, orgs, moment) for moment in late], owner)
    return charged + await _charge(admin, ENDS + timedelta(hours=1))


def _late_row(choose: random.Random, orgs: list[Organization], moment: datetime) -> UsageRecord:
    cost = choose.randint(1, 10**9)
    return usage(
        request_id=LATE_PREFIX + UUID(int=choose.getrandbits(128)).hex[8:],
        started_at=moment,
        org_id=choose.choice(orgs).org_id,
        credential_kind=CredentialKind.PLATFORM,
        cost_picodollars=cost,
        charged_picodollars=cost,
    )


async def _charge(admin: Database, now: datetime) -> int:
    """Two at a time, as two processes of the control plane do."""
    charged = [0, 0]

    async def one(number: int) -> None:
        charged[number] = await charge_usage(admin, now)
        await turn_month(admin, now)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one, 0)
        nursery.start_soon(one, 1)
    return sum(charged)


if __name__ == "__main__":
    main()

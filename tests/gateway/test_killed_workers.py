"""Two workers on one database, one of them killed every few seconds: whatever reached the provider has one
row, with the provider's own figures where the answer was whole, and no limit is passed.

`KARTA_TEST_KILLED_REQUESTS` sets how many requests (`tox -e killed`: ten thousand), `KARTA_TEST_SEED` where
chance begins.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

import trio

from storage.api_keys import mint_key
from storage.bridge import Database, open_database
from storage.limits import LimitScope, set_limit
from storage.model import Limit, LimitKind, Mode, Period
from storage.prices import set_price_override
from tests.bench.sim.process import SimProcess, running_sim
from tests.gateway.conftest import ACTOR, Tenant
from tests.gateway.killed_load import OUTPUT_TOKENS_MAX, End, Load, Sent, Workers, two_workers

REQUESTS = int(os.environ.get("KARTA_TEST_KILLED_REQUESTS", "3000"))
SEED = int(os.environ.get("KARTA_TEST_SEED", "7"))
# Of a load that is bounded by what the clients take, and of a machine that has other things to do.
SECONDS_MAX = 60 + REQUESTS / 20
PATIENCE_SECONDS = 60.0
MICRODOLLAR = 1_000_000
RATES = {"input": 3 * MICRODOLLAR, "cache_read": 300_000, "output": 15 * MICRODOLLAR}
CLASSES = (
    *("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_5m_tokens"),
    *("cache_write_1h_tokens", "reasoning_tokens", "server_tool_calls"),
)


class Keys:
    """Three keys of one organization: one with nothing but its organization's limits, one with requests a
    minute, one with a budget."""

    def __init__(
        self, tokens: dict[str, tuple[str, int]], key_ids: dict[str, str], limits: list[Limit]
    ) -> None:
        self.tokens = tokens
        self.key_ids = key_ids
        self.limits = limits


async def make_keys(tenant: Tenant) -> Keys:
    async with open_database(tenant.database_url, role="karta_admin") as db:
        tokens, key_ids = {"plain": (tenant.token, 6)}, {"plain": tenant.key_id}
        for name in ("paced", "poor"):
            key, token = await mint_key(db, ACTOR, org_id=tenant.org_id, name=name, mode=Mode.LIVE)
            tokens[name], key_ids[name] = (token, 2), key.key_id
        for provider in ("anthropic", "openai"):
            await set_price_override(
                db, ACTOR, org_id=None, provider=provider, model="sim:*", tier=None, rates=RATES
            )
        answer = 30 * RATES["input"] + OUTPUT_TOKENS_MAX // 2 * RATES["output"]
        wanted: list[tuple[str | None, LimitKind, Period, int]] = [
            (None, LimitKind.MONEY, Period.MONTH, 10**18),
            (None, LimitKind.TOKENS, Period.DAY, 10**9),
            (None, LimitKind.CONCURRENT, Period.NONE, 1000),
            ("paced", LimitKind.REQUESTS, Period.MINUTE, REQUESTS // 50),
            # A tenth of what it asks for, and room for worst cases.
            ("poor", LimitKind.MONEY, Period.DAY, REQUESTS // 50 * answer + 10 * 1_500 * RATES["input"]),
        ]
        limits = []
        for owner, kind, period, amount in wanted:
            key_id = None if owner is None else key_ids[owner]
            scope = LimitScope(org_id=tenant.org_id, key_id=key_id, kind=kind, period=period)
            limits.append(await set_limit(db, ACTOR, scope, amount))
    return Keys(tokens, key_ids, limits)


async def test_every_request_is_counted_once_and_no_limit_is_passed(
    own_tenant: Tenant, tmp_path: Path
) -> None:
    choose = random.Random(SEED)
    keys = await make_keys(own_tenant)
    with running_sim() as provider, trio.fail_after(SECONDS_MAX):
        async with (
            open_database(own_tenant.database_url, role=None) as db,
            two_workers(own_tenant, provider.base_url, tmp_path) as workers,
        ):
            load = Load(workers, keys.tokens, REQUESTS, choose)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(workers.trouble, random.Random(SEED + 1))
                await load.run()
                nursery.cancel_scope.cancel()
            await bury(workers, db)
            ledger = by_model(await read_ledger(provider))
            rows = {row["model_asked"]: row for row in await read_rows(db)}
            assert await db.fetch_value("SELECT count(*) FROM usage") == len(rows)
            check_requests(load.history, ledger, rows, keys)
            await check_windows(db, rows, keys)
            assert await workers.stop() == [0, 0]
            assert await db.fetch("SELECT * FROM quota_leases WHERE held <> 0") == []
    assert workers.kills >= 2
    assert [path for folder in workers.spool_dirs for path in folder.glob("*.damaged")] == []
    tell(load.history, rows, workers)


async def bury(workers: Workers, db: Database) -> None:
    """Both die once more; their successors settle what was left, and end the leases."""
    for number in range(2):
        await workers.kill(number)
    for number in range(2):
        await workers.start(number)
    with trio.fail_after(PATIENCE_SECONDS):
        while await db.fetch_value("SELECT count(*) FROM quota_leases"):
            await trio.sleep(0.05)


async def read_ledger(provider: SimProcess) -> list[dict[str, Any]]:
    """Once the provider has nothing under way."""
    with trio.fail_after(PATIENCE_SECONDS):
        while True:
            entries: list[dict[str, Any]] = (await provider.look("/_sim/ledger"))["entries"]
            if all(entry["ended_at"] is not None for entry in entries):
                return entries
            await trio.sleep(0.05)


def by_model(entries: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Nothing goes up twice."""
    assert max(Counter(entry["model"] for entry in entries).values()) == 1
    return {entry["model"]: entry for entry in entries}


async def read_rows(db: Database) -> list[dict[str, Any]]:
    return [dict(row) for row in await db.fetch("SELECT * FROM usage ORDER BY started_at")]


def check_requests(
    history: list[Sent], ledger: dict[str, Any], rows: dict[str, dict[str, Any]], keys: Keys
) -> None:
    """One row for whatever reached the provider, none for what was refused, and nothing out of thin air."""
    sent = {one.model: one for one in history}
    assert set(rows) <= set(sent)
    assert set(ledger) <= set(rows), "what reached the provider has a row"
    assert len({row["request_id"] for row in rows.values()}) == len(rows)
    ids = [row["provider_request_id"] for row in rows.values() if row["provider_request_id"] is not None]
    assert len(set(ids)) == len(ids)
    for one in history:
        row, entry = rows.get(one.model), ledger.get(one.model)
        if row is not None:
            assert row["key_id"] == keys.key_ids[one.key]
            if row["provider_request_id"] is not None:
                assert entry is not None
                assert row["provider_request_id"] == entry["request_id"]
        if one.end is End.ANSWERED:
            assert row is not None
            assert entry is not None
            check_answer(one, row, entry)
        elif one.end is End.REFUSED:
            assert one.status in (402, 429, 503), one
            assert (row, entry) == (None, None), one
        elif row is not None:
            # Whether its client left, or its worker did: or the worker had just written the whole of it.
            assert row["outcome"] in ("interrupted", "client_gone", "completed"), row
            if row["outcome"] == "interrupted":
                assert not row["usage_complete"]


def check_answer(one: Sent, row: dict[str, Any], entry: dict[str, Any]) -> None:
    """What the client saw to its end."""
    assert row["request_id"].hex == one.request_id
    assert row["provider_request_id"] == entry["request_id"] == one.provider_id
    assert (row["outcome"], row["status"], row["usage_complete"]) == ("completed", 200, True)
    assert {name: row[name] for name in CLASSES} == {name: entry["tokens"][name] for name in CLASSES}
    cost = (
        row["input_tokens"] * RATES["input"]
        + row["cache_read_tokens"] * RATES["cache_read"]
        + row["output_tokens"] * RATES["output"]
    )
    assert row["cost_picodollars"] == row["charged_picodollars"] == cost


async def check_windows(db: Database, rows: dict[str, dict[str, Any]], keys: Keys) -> None:
    """Every window has settled what its rows come to, which is no more than its limit; nothing is lost."""
    windows = {
        (row["limit_id"], row["window_start"]): row for row in await db.fetch("SELECT * FROM quota_windows")
    }
    for limit in keys.limits:
        if limit.kind is LimitKind.CONCURRENT:
            continue
        sums: Counter[Any] = Counter()
        for row in rows.values():
            if limit.key_id in (None, row["key_id"]):
                sums[window_of(limit, row)] += used(limit.kind, row)
        assert sums
        assert max(sums.values()) <= limit.amount
        for start, total in sums.items():
            window = windows[limit.limit_id, start]
            assert (window["settled"], window["written_off"]) == (total, 0)


def window_of(limit: Limit, row: dict[str, Any]) -> Any:
    start = row["started_at"].replace(second=0, microsecond=0)
    if limit.period is not Period.MINUTE:
        start = start.replace(hour=0, minute=0)
    return start.replace(day=1) if limit.period is Period.MONTH else start


def used(kind: LimitKind, row: dict[str, Any]) -> int:
    if kind is LimitKind.REQUESTS:
        return 1
    if kind is LimitKind.MONEY:
        return int(row["charged_picodollars"])
    return sum(int(row[name]) for name in CLASSES[:5])


def tell(history: list[Sent], rows: dict[str, dict[str, Any]], workers: Workers) -> None:
    """The figures, for who runs this by hand with `-s`."""
    ends = Counter((one.key, one.end.value, one.status) for one in history)
    outcomes = Counter(row["outcome"] for row in rows.values())
    print(f"{len(history)} requests, {workers.kills} kills, {len(rows)} rows: {dict(outcomes)}")
    for (key, end, status), count in sorted(ends.items()):
        print(f"  {key} {end} {status}: {count}")

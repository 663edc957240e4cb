"""Limits of a test's own tenant: set, asked of until they refuse, and compared: database, ledger, rows."""

from __future__ import annotations

from typing import Any, NamedTuple
from uuid import UUID

import trio

from storage.bridge import Database
from storage.limits import LimitScope, set_limit
from storage.model import Limit, LimitKind, Period
from tests.gateway.conftest import ACTOR, Tenant
from tests.support.gateway import PATIENCE_SECONDS, POLL_SECONDS, RunningGateway
from tests.support.raw_client import Answer, RawClient

DOLLAR = 10**12
UNKNOWN_RATE = 100_000_000
"""Picodollars for a token of unknown price: the default of KARTA_UNKNOWN_PRICE_USD_PER_MTOK."""


async def limit_tenant(
    db: Database,
    tenant: Tenant,
    kind: LimitKind,
    amount: int,
    period: Period = Period.DAY,
    *,
    of_key: bool = True,
    model: str | None = None,
    hard: bool = True,
) -> Limit:
    """A limit of the tenant's key, or of its organization. A day by default, so that no window ends while a
    test runs."""
    scope = LimitScope(
        org_id=tenant.org_id,
        key_id=tenant.key_id if of_key else None,
        model=model,
        kind=kind,
        period=Period.NONE if kind is LimitKind.CONCURRENT else period,
    )
    return await set_limit(db, ACTOR, scope, amount, hard=hard)


async def ask_until_refused(client: RawClient, request: bytes, passes_max: int) -> tuple[int, Answer]:
    """How many answers came, one after the other, and the refusal after them."""
    for passed in range(passes_max + 1):
        await client.send(request)
        answer = await client.read_answer()
        if answer.status != 200:
            return passed, answer
    raise AssertionError(f"{passes_max + 1} requests passed")


class Account(NamedTuple):
    """One window of a limit."""

    settled: int
    written_off: int
    held: int
    """By all owners."""
    balance: int
    """Of this worker, free."""
    reserved: int
    """Of this worker, for requests that run."""


async def account_of(gateway: RunningGateway, limit: Limit) -> Account:
    """The limit's one window, in the database and in the worker's memory."""
    (row,) = await gateway.db.fetch(
        """
        SELECT settled, written_off,
               (SELECT coalesce(sum(held), 0)::bigint FROM quota_leases q
                 WHERE (q.limit_id, q.window_start) = (w.limit_id, w.window_start)) AS held
          FROM quota_windows w WHERE limit_id = $1
        """,
        limit.limit_id,
    )
    accounts = gateway.worker.refill.ledger._accounts
    found = [one for (limit_id, _), one in accounts.items() if limit_id == limit.limit_id]
    return Account(
        row["settled"],
        row["written_off"],
        row["held"],
        sum(one.balance for one in found),
        sum(one.reserved for one in found),
    )


async def until_agreed(gateway: RunningGateway, limit: Limit, *, settled: int, reserved: int = 0) -> Account:
    """Once all rows are accounted for, and the worker's memory and the database say the same of the limit:
    so much settled and reserved, and nothing held but what is reserved or free."""
    found = None
    with trio.move_on_after(PATIENCE_SECONDS):
        while True:
            await gateway.worker.shipper.ship_all()
            found = await account_of(gateway, limit)
            if (
                (found.settled, found.reserved) == (settled, reserved)
                and found.held == found.balance + found.reserved
                and found.written_off == 0
            ):
                return found
            await trio.sleep(POLL_SECONDS)
    raise AssertionError(f"{found}, not settled={settled} and reserved={reserved} with held their sum")


async def sums_of(db: Database, org_id: UUID) -> dict[str, Any]:
    """What the usage rows come to, as each kind of limit counts them."""
    (row,) = await db.fetch(
        """
        SELECT count(*) AS requests, coalesce(sum(charged_picodollars), 0)::bigint AS money,
               coalesce(sum(input_tokens + output_tokens + cache_read_tokens + cache_write_5m_tokens
                            + cache_write_1h_tokens), 0)::bigint AS tokens
          FROM usage WHERE org_id = $1
        """,
        org_id,
    )
    return dict(row)

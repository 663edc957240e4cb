"""Leases on a real server: lent, spent, lost, found again, and never more of them than there is."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
import trio

from storage import leases
from storage.bridge import Database
from storage.errors import CheckFailed, InvalidValue
from storage.leases import (
    BATCH_LEASES_MAX,
    PLANNED_ANEW_MIN,
    LeaseAnswer,
    LeaseRequest,
    LeaseState,
    prune_quota,
    release_owner,
    settle_leases,
)
from storage.limits import LimitScope, select_limits, set_limit, unset_limit
from storage.model import Actor, Limit, LimitKind, Organization, Period, Plan
from storage.organizations import create_organization
from storage.usage_charges import set_prepaid
from storage.usage_rows import LATE_PREFIX
from tests.storage.lock_waits import until_waiting
from tests.storage.usage_records import insert_usage, usage

MONTH = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


@pytest.fixture
async def budget(admin_db: Database, actor: Actor, org: Organization) -> Limit:
    return await set_limit(
        admin_db, actor, LimitScope(org_id=org.org_id, kind=LimitKind.MONEY, period=Period.MONTH), 1000
    )


@pytest.fixture
async def streams(admin_db: Database, actor: Actor, org: Organization) -> Limit:
    return await set_limit(
        admin_db, actor, LimitScope(org_id=org.org_id, kind=LimitKind.CONCURRENT, period=Period.NONE), 10
    )


class Owner:
    """One journal and what its worker remembers of one lease."""

    def __init__(self, db: Database, limit: Limit, start: int | None = None) -> None:
        self.db = db
        self.limit = limit
        self.id = uuid4()
        self.turn = 0
        if start is None:
            start = 0 if limit.period is Period.NONE else int(MONTH.timestamp())
        self.request = LeaseRequest(limit.limit_id, start, 1, 0, 0, 0, 0)

    async def ask(self, wanted: int, minimum: int = 1, *, heard: bool = True, **changes: Any) -> LeaseAnswer:
        self.turn += 1
        request = msgspec.structs.replace(self.request, wanted=wanted, minimum=minimum, **changes)
        [answer] = await settle_leases(self.db, self.id, self.turn, [request])
        if heard:
            acquired = request.acquired + answer.granted
            self.request = msgspec.structs.replace(request, acquired=acquired)
        return answer

    async def give_back(self, amount: int) -> None:
        await self.ask(0, acquired=self.request.acquired - amount)

    async def spend(self, amount: int, **changes: Any) -> None:
        record = usage(
            org_id=self.limit.org_id, started_at=datetime.now(UTC), charged_picodollars=amount, **changes
        )
        await insert_usage(self.db, [record], self.id)


async def standing(db: Database, limit: Limit) -> tuple[int, int, int]:
    [found] = [told for told in await select_limits(db, limit.org_id) if told.limit == limit]
    return found.settled, found.held, found.written_off


async def let_run_out(owner_db: Database, owner: Owner) -> None:
    sql = "UPDATE quota_leases SET expires_at = now() - interval '1 second' WHERE owner = $1"
    await owner_db.execute(sql, owner.id)


async def test_lent_spent_and_given_back(admin_db: Database, gateway_db: Database, budget: Limit) -> None:
    one, two = Owner(gateway_db, budget), Owner(gateway_db, budget)
    # Half of an even share: of 1000 for one, of 500 for two.
    assert await one.ask(2000) == LeaseAnswer(budget.limit_id, one.request.window_start, "open", 500, 500, 0)
    assert (await two.ask(2000)).granted == 125
    # What is needed is granted if it is there at all, and nothing if it is not.
    assert (await two.ask(2000, 376)).granted == 0
    assert (await two.ask(2000, 375)).granted == 375
    assert await standing(admin_db, budget) == (0, 1000, 0)
    await one.give_back(100)
    assert await standing(admin_db, budget) == (0, 900, 0)
    await one.spend(300)
    assert await standing(admin_db, budget) == (300, 600, 0)
    assert (await one.ask(5)).granted == 5
    assert await release_owner(gateway_db, one.id, one.turn) == 1
    assert await release_owner(gateway_db, one.id, one.turn) == 0
    assert await standing(admin_db, budget) == (300, 500, 0)


async def test_an_answer_that_was_lost_is_taken_back(
    admin_db: Database, gateway_db: Database, budget: Limit
) -> None:
    owner = Owner(gateway_db, budget)
    await owner.ask(100)
    await owner.ask(200, heard=False)
    assert await standing(admin_db, budget) == (0, 300, 0)
    await owner.ask(0)
    assert await standing(admin_db, budget) == (0, 100, 0)
    # A call that was overtaken changes nothing.
    owner.turn = 0
    late = await owner.ask(100, heard=False)
    assert (late.state, late.granted, late.last_turn) == (LeaseState.LATE, 0, 3)
    assert await standing(admin_db, budget) == (0, 100, 0)
    # Who has forgotten what it was granted leaves that alone.
    owner.turn = late.last_turn
    await owner.ask(50, opened=2, acquired=0)
    assert await standing(admin_db, budget) == (0, 150, 0)


async def test_what_cost_more_than_was_held_is_a_debt(
    admin_db: Database, gateway_db: Database, budget: Limit
) -> None:
    one, two = Owner(gateway_db, budget), Owner(gateway_db, budget)
    await one.ask(10)
    await one.spend(60)
    assert await standing(admin_db, budget) == (60, 0, 0)
    assert (await two.ask(940, 940)).granted == 940
    # All is spent or held; the debt of fifty was counted, so that repaying it takes nothing from anybody.
    assert (await one.ask(60)).granted == 50
    assert await standing(admin_db, budget) == (60, 940, 0)
    await one.spend(100)
    assert (await one.ask(500, 101)).granted == 0
    assert await standing(admin_db, budget) == (160, 940, 0)


async def test_a_silent_owner_is_written_off_until_it_turns_up(
    admin_db: Database, gateway_db: Database, owner_db: Database, budget: Limit
) -> None:
    silent, other = Owner(gateway_db, budget), Owner(gateway_db, budget)
    await silent.ask(400)
    await let_run_out(owner_db, silent)
    assert (await other.ask(1000, 600)).granted == 600
    assert await standing(admin_db, budget) == (0, 600, 400)
    # Its rows come late: they were written off already.
    await silent.spend(150)
    assert await standing(admin_db, budget) == (150, 600, 250)
    # It lives, and holds what it held.
    assert (await silent.ask(100)).granted == 0
    assert await standing(admin_db, budget) == (150, 850, 0)
    await let_run_out(owner_db, silent)
    await other.give_back(500)
    assert await standing(admin_db, budget) == (150, 100, 250)
    # It is gone, and its successor has stored all of its journal.
    await release_owner(gateway_db, silent.id, silent.turn)
    assert await standing(admin_db, budget) == (150, 100, 0)


async def test_streams_of_the_silent_are_free_again(
    admin_db: Database, gateway_db: Database, owner_db: Database, streams: Limit
) -> None:
    silent, other = Owner(gateway_db, streams), Owner(gateway_db, streams)
    assert (await silent.ask(8, 8)).granted == 8
    await silent.spend(150)
    assert await standing(admin_db, streams) == (0, 8, 0)
    assert (await other.ask(3, 3)).granted == 0
    await let_run_out(owner_db, silent)
    assert (await other.ask(10, 10)).granted == 10
    assert await standing(admin_db, streams) == (0, 10, 0)
    # It was only away: more run than allowed, until enough have ended.
    await silent.ask(0)
    assert await standing(admin_db, streams) == (0, 18, 0)
    await silent.give_back(8)
    assert (await silent.ask(1)).granted == 0
    await other.give_back(4)
    assert (await silent.ask(1)).granted == 1


async def test_what_is_learnt_of_late_was_never_lent(
    admin_db: Database, gateway_db: Database, budget: Limit
) -> None:
    owner = Owner(gateway_db, budget)
    await owner.ask(400)
    await owner.spend(100, request_id=LATE_PREFIX + "0" * 24)
    assert await standing(admin_db, budget) == (100, 400, 0)
    await owner.spend(100, request_id=LATE_PREFIX + "0" * 24)
    assert await standing(admin_db, budget) == (100, 400, 0)
    await owner.spend(50)
    assert await standing(admin_db, budget) == (150, 350, 0)


@pytest.mark.parametrize(
    ("answered", "limited", "counts"),
    [
        ("gpt-4o-2024-08-06", "gpt-4o-2024-08-06", True),
        ("gpt-4o-2024-08-06", "gpt-4o", True),
        ("gpt-4o-2024-08-06", "gpt-4o-2024-05-13", False),
        ("gpt-4o-2024-08-06", "gpt-4", False),
        ("gpt-4o-mini-2024-07-18", "gpt-4o", False),
        ("gpt-4-0613", "gpt-4", True),
        ("claude-3-7-sonnet-20250219", "claude-3-7-sonnet-latest", True),
        ("claude-opus-4-20250514", "claude-opus-4-0", True),
        ("claude-opus-4-20250514", "claude-opus-4-1", False),
        ("claude-sonnet-4-5@20250929", "claude-sonnet-4-5", True),
    ],
)
async def test_a_models_limit_counts_what_named_none_by_what_answered(
    admin_db: Database,
    gateway_db: Database,
    actor: Actor,
    org: Organization,
    answered: str,
    limited: str,
    counts: bool,
) -> None:
    """Late work, and a request that was reserved for, but not from this limit; also when it is set later."""
    scope = LimitScope(org_id=org.org_id, model=limited, kind=LimitKind.MONEY, period=Period.MONTH)
    limit = await set_limit(admin_db, actor, scope, 1000)
    owner = Owner(gateway_db, limit)
    await owner.ask(400)
    unnamed = {"model_asked": None, "model_answered": answered}
    await owner.spend(100, request_id=LATE_PREFIX + "0" * 24, **unnamed)
    await owner.spend(50, **unnamed)
    await owner.spend(7, model_asked="other", model_answered=answered)
    settled = 150 if counts else 0
    assert await standing(admin_db, limit) == (settled, 400, 0)
    await unset_limit(admin_db, actor, scope)
    later = await set_limit(admin_db, actor, scope, 1000)
    assert await standing(admin_db, later) == (settled, 0, 0)


async def test_after_its_end_an_owners_calls_are_late(
    gateway_db: Database, owner_db: Database, budget: Limit
) -> None:
    """Those that were sent before it was killed, and come later."""
    owner = Owner(gateway_db, budget)
    await owner.ask(10)
    assert await release_owner(gateway_db, owner.id, 5) == 1
    late = await owner.ask(10)
    assert (owner.turn, late.state, late.granted, late.last_turn) == (2, LeaseState.LATE, 0, 5)
    assert await owner_db.fetch("SELECT 1 FROM quota_leases") == []
    # An older end does not open what a newer one has closed. Its successor is above both.
    assert await release_owner(gateway_db, owner.id, 4) == 0
    owner.turn = 4
    assert (await owner.ask(10)).state is LeaseState.LATE
    assert (await owner.ask(10)).granted == 10
    # Of others that have ended nobody knows for ever.
    await owner_db.execute("UPDATE quota_owners SET ended_at = now() - interval '25 hours'")
    await release_owner(gateway_db, UUID(int=1), 1)
    assert await owner_db.fetch_value("SELECT owner FROM quota_owners") == UUID(int=1)


async def test_the_end_of_an_owner_waits_for_what_is_under_way(
    gateway_db: Database, owner_db: Database, budget: Limit
) -> None:
    owner = Owner(gateway_db, budget)
    await Owner(gateway_db, budget).ask(10)

    async with trio.open_nursery() as nursery, owner_db.transaction() as tx:
        await tx.fetch("SELECT 1 FROM quota_windows FOR UPDATE")
        # A worker asks, and is killed before it hears of anything.
        nursery.start_soon(owner.ask, 10)
        await until_waiting(owner_db)
        nursery.start_soon(release_owner, gateway_db, owner.id, owner.turn + 1)
        await until_waiting(owner_db, 2)
    assert await owner_db.fetch("SELECT 1 FROM quota_leases WHERE owner = $1", owner.id) == []


async def test_what_is_used_without_a_lease_is_settled_and_not_found_again(
    admin_db: Database, gateway_db: Database, actor: Actor, org: Organization
) -> None:
    """Under a soft limit nothing is lent; when it becomes hard, what was used of it is gone."""
    scope = LimitScope(org_id=org.org_id, kind=LimitKind.MONEY, period=Period.MONTH)
    soft = await set_limit(admin_db, actor, scope, 1000, hard=False)
    owner = Owner(gateway_db, soft)
    await owner.spend(900)
    assert await standing(admin_db, soft) == (900, 0, 0)
    hard = await set_limit(admin_db, actor, scope, 1000)
    assert await standing(admin_db, hard) == (900, 0, 0)
    answer = await owner.ask(1000)
    assert answer.granted + answer.available == 100


async def test_a_lease_that_vanished_is_made_again(
    admin_db: Database, gateway_db: Database, owner_db: Database, budget: Limit
) -> None:
    owner = Owner(gateway_db, budget)
    await owner.ask(100)
    await owner_db.execute("DELETE FROM quota_leases; DELETE FROM quota_windows")
    await owner.ask(0, unspent=70)
    assert await standing(admin_db, budget) == (0, 70, 0)


async def test_limits_and_windows_that_cannot_be_lent_of(
    admin_db: Database, gateway_db: Database, actor: Actor, org: Organization, budget: Limit
) -> None:
    now = datetime.now(UTC)
    scope = LimitScope(org_id=org.org_id, kind=LimitKind.REQUESTS, period=Period.MINUTE)
    limit = await set_limit(admin_db, actor, scope, 100)
    minute = int(now.timestamp()) // 60 * 60

    async def state(start: int, of: Limit = limit) -> str:
        return (await Owner(gateway_db, of, start).ask(1)).state

    assert await state(minute) == "open"
    assert await state(minute - 60) == "open"
    assert await state(minute - 240) == "closed"
    assert await state(minute + 180) == "closed"
    assert await state(minute + 1) == "closed"
    assert await state(int((MONTH - timedelta(days=1)).replace(day=1).timestamp()), budget) == "open"
    assert await state(int((MONTH - timedelta(days=70)).replace(day=1).timestamp()), budget) == "closed"
    await set_limit(admin_db, actor, scope, 100, hard=False)
    assert await state(minute) == "gone"
    await set_limit(admin_db, actor, scope, 100)
    await unset_limit(admin_db, actor, scope)
    assert await state(minute) == "gone"
    assert await settle_leases(gateway_db, uuid4(), 1, []) == []
    with pytest.raises(InvalidValue):
        await settle_leases(
            gateway_db, uuid4(), 1, [Owner(gateway_db, budget).request] * (BATCH_LEASES_MAX + 1)
        )
    with pytest.raises(CheckFailed):
        await settle_leases(gateway_db, uuid4(), 1, [Owner(gateway_db, budget).request], lease_seconds=0)


async def test_as_many_leases_at_a_time_as_may_be(
    gateway_db: Database, budget: Limit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "BATCH_LEASES_MAX", 1)
    request = Owner(gateway_db, budget).request
    [answer] = await settle_leases(gateway_db, uuid4(), 1, [request])
    assert answer.state is LeaseState.OPEN
    with pytest.raises(InvalidValue, match=r"^ask for 1 leases at most at a time$"):
        await settle_leases(gateway_db, uuid4(), 1, [request, request])


@pytest.mark.parametrize(
    ("amount", "bound"), [(0, 0), (-7, -7), (2**62, 2**62), (2**62 + 1, 2**62), (-(2**63), -(2**62))]
)
def test_amounts_stay_in_the_databases_range(amount: int, bound: int) -> None:
    assert leases._bound(amount) == bound


async def test_calls_for_many_are_planned_anew(owner_db: Database, gateway_db: Database) -> None:
    """By the plan that is kept for calls of a few, thousands take longer than a statement may."""
    await owner_db.execute(
        """
        CREATE OR REPLACE FUNCTION settle_leases(
            p_owner uuid, p_turn bigint, p_lease_seconds integer, p_limits bigint[], p_starts bigint[],
            p_opened bigint[], p_acquired bigint[], p_unspent bigint[], p_wanted bigint[], p_minimum bigint[])
        RETURNS TABLE (limit_id bigint, window_start bigint, state text, granted bigint, available bigint,
                       last_turn bigint)
        LANGUAGE sql
        AS $$ SELECT p_limits[1], 0, 'open', 0,
                     (current_setting('plan_cache_mode') = 'force_custom_plan')::integer, 0 $$
        """
    )
    for number, planned in ((1, 0), (PLANNED_ANEW_MIN, 1), (1, 0)):
        requests = [LeaseRequest(limit_id, 0, 1, 0, 0, 0, 0) for limit_id in range(number)]
        [answer] = await settle_leases(gateway_db, uuid4(), 1, requests)
        assert answer.available == planned
    assert await gateway_db.fetch_value("SHOW plan_cache_mode") == "auto"


async def test_old_windows_go(
    gateway_db: Database,
    owner_db: Database,
    admin_db: Database,
    budget: Limit,
    streams: Limit,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Some at a time; of windows that never end the leases of those who have long been silent."""
    monkeypatch.setattr(leases, "PRUNE_ROWS_MAX", 3)
    await Owner(gateway_db, budget).ask(1)
    await Owner(gateway_db, streams).ask(1)
    await owner_db.execute(
        """
        INSERT INTO quota_windows (limit_id, window_start) SELECT $1, now() - n * interval '1 year'
          FROM generate_series(1, 5) n
        """,
        budget.limit_id,
    )
    await owner_db.execute("UPDATE quota_leases SET expires_at = now() - interval '25 hours'")
    assert [await prune_quota(gateway_db) for _ in range(3)] == [3 + 1, 1, 0]
    assert (await standing(admin_db, budget))[1] == 1
    assert (await standing(admin_db, streams))[1] == 0


async def test_credit_that_is_held_for_ever_hides_no_other(
    gateway_db: Database,
    owner_db: Database,
    admin_db: Database,
    actor: Actor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leases, "PRUNE_ROWS_MAX", 1)
    for name in ("holds", "holds", "is done"):
        org = await create_organization(admin_db, actor, name=name, plan=Plan.PRO)
        await set_prepaid(admin_db, actor, org.org_id, True)
        await owner_db.execute(
            """
            INSERT INTO quota_leases (limit_id, window_start, owner, held, acquired, opened, turn, expires_at)
            SELECT limit_id, to_timestamp(0), gen_random_uuid(), $2, 5, 1, 1, now() - interval '8 days'
              FROM limits WHERE org_id = $1 AND kind = 'credit'
            """,
            org.org_id,
            5 if name == "holds" else 0,
        )
    assert [await prune_quota(gateway_db) for _ in range(2)] == [1, 0]
    assert await owner_db.fetch_value("SELECT array_agg(held) FROM quota_leases") == [5, 5]


async def test_refills_and_accounting_at_once_do_not_block_each_other(
    admin_db: Database, gateway_db: Database, actor: Actor, org: Organization
) -> None:
    """Many connections, the same limits in every order: a deadlock would be an error."""
    scopes = [
        LimitScope(org_id=org.org_id, model=model, kind=kind, period=Period.DAY)
        for kind in (LimitKind.REQUESTS, LimitKind.TOKENS, LimitKind.MONEY)
        for model in (None, "a", "b")
    ]
    found = [await set_limit(admin_db, actor, scope, 10**9) for scope in scopes]
    day = int(datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0).timestamp())
    choose = random.Random(7)
    sent = 0

    async def refill(owner: UUID) -> None:
        for turn in range(1, 30):
            chosen = choose.sample(found, choose.randint(1, len(found)))
            await settle_leases(
                gateway_db,
                owner,
                turn,
                [LeaseRequest(limit.limit_id, day, 1, 0, 0, choose.randint(0, 50), 1) for limit in chosen],
                lease_seconds=1,
            )
        await release_owner(gateway_db, owner, 1000)

    async def account(owner: UUID) -> None:
        nonlocal sent
        for _ in range(15):
            batch = [
                usage(
                    org_id=org.org_id,
                    key_id=choose.choice(["k1", "k2", "k3"]),
                    model_asked=choose.choice(["a", "b", "c"]),
                    started_at=datetime.now(UTC),
                )
                for _ in range(choose.randint(1, 20))
            ]
            sent += len(batch)
            await insert_usage(gateway_db, batch, owner)

    async def change() -> None:
        for amount in range(1, 10):
            scope = LimitScope(org_id=org.org_id, key_id=None, kind=LimitKind.TOKENS, period=Period.MONTH)
            await set_limit(admin_db, actor, scope, amount)
            await unset_limit(admin_db, actor, scope)
            await prune_quota(gateway_db)

    async with trio.open_nursery() as nursery:
        owners = [uuid4() for _ in range(3)]
        for owner in owners:
            nursery.start_soon(refill, owner)
            nursery.start_soon(account, owner)
        nursery.start_soon(change)
    standings = {told.limit: told for told in await select_limits(admin_db, org.org_id)}
    assert set(standings) == set(found)
    assert await admin_db.fetch_value("SELECT sum(requests) FROM usage_hourly") == sent
    assert standings[found[0]].settled == sent
    assert all(told.held == 0 for told in standings.values())

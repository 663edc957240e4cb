"""Credit paid in advance, with the real gateway: what goes up with the platform's key ends with it, what goes
up with the organization's own does not; and both agree with the ledger."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from storage import ledger
from storage.bridge import Database, open_database
from storage.limits import select_limits
from storage.model import Limit, LimitKind, Plan
from storage.organizations import set_plan
from storage.usage_charges import charge_usage, set_prepaid
from tests.gateway.conftest import ACTOR, Stage, Tenant, set_byok
from tests.gateway.limiting import ask_until_refused, until_agreed
from tests.gateway.test_admission_accounts import ANSWER, BODY, COST, only_record
from tests.storage.ledger_posts import top_up
from tests.support.gateway import poll
from tests.support.requests import post
from tests.support.scripted_provider import Line, answering

WORST = 10**10
"""Picodollars, more than one request of the tests is reserved."""


@pytest.fixture
async def admin(own_tenant: Tenant) -> AsyncIterator[Database]:
    async with open_database(own_tenant.database_url, role="karta_admin") as db:
        yield db


async def give(db: Database, tenant: Tenant, picodollars: int, source: str) -> None:
    async with db.transaction() as tx:
        await top_up(tx, tenant.org_id, picodollars, source)


async def credit_of(db: Database, tenant: Tenant) -> Limit:
    [standing] = await select_limits(db, tenant.org_id, of_plan=True)
    assert standing.limit.kind is LimitKind.CREDIT
    return standing.limit


async def answers(line: Line) -> None:
    while (await line.read_request())[0]:
        await line.answer(ANSWER)


async def test_what_the_platform_pays_for_ends_with_the_credit(
    stage: Stage, own_tenant: Tenant, admin: Database
) -> None:
    await give(admin, own_tenant, WORST + 3 * COST, "first")
    await set_prepaid(admin, ACTOR, own_tenant.org_id, True)
    async with stage(answers, of=own_tenant) as (gateway, _), gateway.client() as client:
        await poll(lambda: gateway.worker.snapshot.listening)
        passed, refused = await ask_until_refused(client, post(own_tenant.token, BODY), 500)
        assert passed >= 3
        assert refused.status == 402
        error = json.loads(refused.body)["error"]
        assert error["type"] == "billing_error"
        assert "top it up" in error["message"]
        await until_agreed(gateway, await credit_of(admin, own_tenant), settled=passed * COST)

        # What was put in counts at once, and only for the platform's key.
        await give(admin, own_tenant, WORST, "second")
        await poll(lambda: only_record(gateway).hard_limits[0].amount == 2 * WORST + 3 * COST)
        await client.send(post(own_tenant.token, BODY))
        assert (await client.read_answer()).status == 200
        await set_byok(gateway.db, own_tenant, "sk-ant-own-secret-0001")
        await poll(lambda: only_record(gateway).key.credentials)
        for _ in range(5):
            await client.send(post(own_tenant.token, BODY))
            assert (await client.read_answer()).status == 200
        limit = await credit_of(admin, own_tenant)
        assert await gateway.settled(passed + 6)
        await until_agreed(gateway, limit, settled=(passed + 1) * COST)
    await charge_usage(admin, datetime.now(UTC) + timedelta(hours=2))
    balance = await ledger.select_balance(admin, own_tenant.org_id)
    assert balance.total == 2 * WORST + 3 * COST - (passed + 1) * COST >= 0


async def test_without_credit_nothing_goes_up_and_own_keys_work(
    stage: Stage, own_tenant: Tenant, admin: Database
) -> None:
    await set_prepaid(admin, ACTOR, own_tenant.org_id, True)
    async with stage(answers, of=own_tenant) as (gateway, provider), gateway.client() as client:
        await poll(lambda: gateway.worker.snapshot.listening)
        assert (await gateway.ask(post(own_tenant.token, BODY))).status == 402
        assert provider.lines == []
        await set_byok(gateway.db, own_tenant, "sk-ant-own-secret-0001")
        await poll(lambda: only_record(gateway).key.credentials)
        for _ in range(4):
            await client.send(post(own_tenant.token, BODY))
            assert (await client.read_answer()).status == 200
        # By the quick way too, which leaves whatever is refused to the other.
        assert gateway.worker.lane.requests
        await set_prepaid(admin, ACTOR, own_tenant.org_id, False)
        await poll(lambda: not only_record(gateway).has_credit)


async def test_a_plans_ceiling_holds_and_says_whose_it_is(
    stage: Stage, own_tenant: Tenant, admin: Database
) -> None:
    await set_plan(admin, ACTOR, own_tenant.org_id, Plan.FREE)
    async with stage(answering(ANSWER), of=own_tenant) as (gateway, _):
        assert (await gateway.ask(post(own_tenant.token, BODY))).status == 200
        # As if the table said so little: all of it would take long to use up.
        await admin.execute("UPDATE limits SET amount = 1 WHERE kind = 'tokens'")
        await poll(lambda: any(one.amount == 1 for one in only_record(gateway).hard_limits))
        refused = await gateway.ask(post(own_tenant.token, BODY))
    assert refused.status == 429
    message = json.loads(refused.body)["error"]["message"]
    assert "this organization's plan: ask for less, or change its plan" in message

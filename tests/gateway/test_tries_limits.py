"""Limits and prices of a routed request: the dearest target is set apart, the one that answered is paid."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio

from storage.bridge import Database, open_database
from storage.model import LimitKind, Period
from storage.prices import set_price_override
from tests.gateway.conftest import ACTOR, Stage, Tenant
from tests.gateway.limiting import DOLLAR, account_of, limit_tenant, until_agreed
from tests.gateway.routing import providers, route, to
from tests.support.gateway import RunningGateway, poll
from tests.support.requests import ANSWER, BODY, post
from tests.support.scripted_provider import Line, answering, silent

CHEAP, DEAR = 1_000, 50_000
"""Picodollars a token."""
# Of 10 tokens of output and a body this short.
WORST_TOKENS = 1_000 + len(BODY) // 2 + 10
TARGETS = (to("vllm_anthropic", "a"), to("anthropic", "b"))


@pytest.fixture
async def admin(own_tenant: Tenant) -> AsyncIterator[Database]:
    async with open_database(own_tenant.database_url, role="karta_admin") as db:
        for provider, model, rate in (("vllm_anthropic", "a", CHEAP), ("anthropic", "b", DEAR)):
            await set_price_override(
                db,
                ACTOR,
                org_id=own_tenant.org_id,
                provider=provider,
                model=model,
                tier=None,
                rates={"input": rate, "output": rate},
            )
        yield db


async def prices_known(gateway: RunningGateway) -> None:
    await poll(lambda: gateway.worker.prices._overrides)


async def test_the_dearest_is_set_apart_and_the_one_that_answered_is_paid(
    stage: Stage, own_tenant: Tenant, admin: Database
) -> None:
    limit = await limit_tenant(admin, own_tenant, LimitKind.MONEY, DOLLAR, Period.MONTH)
    may_answer = trio.Event()
    fails = [False]

    async def first(line: Line) -> None:
        while (await line.read_request())[0]:
            if fails[0]:
                await line.answer(b"{}", status="500 Internal")
            else:
                await may_answer.wait()
                await line.answer(ANSWER)

    handlers = {"vllm_anthropic": first, "anthropic": answering(ANSWER)}
    async with (
        providers(stage, handlers, of=own_tenant) as (gateway, found),
        gateway.client() as client,
    ):
        await route(gateway, own_tenant, "claude-test", *TARGETS)
        await prices_known(gateway)
        await client.send(post(own_tenant.token))
        await poll(lambda: found["vllm_anthropic"].received)
        assert (await account_of(gateway, limit)).reserved == WORST_TOKENS * DEAR
        may_answer.set()
        assert (await client.read_answer()).body == ANSWER
        # Three tokens in, four out.
        await until_agreed(gateway, limit, settled=7 * CHEAP)
        fails[0] = True
        await client.send(post(own_tenant.token))
        assert (await client.read_answer()).body == ANSWER
        await until_agreed(gateway, limit, settled=7 * CHEAP + 7 * DEAR)
        rows = await gateway.settled(2)
    assert [(row["provider"], row["cost_picodollars"]) for row in rows] == [
        ("vllm_anthropic", 7 * CHEAP),
        ("anthropic", 7 * DEAR),
    ]


async def test_who_was_too_slow_may_have_worked_and_the_next_needs_room_of_its_own(
    stage: Stage, own_tenant: Tenant, admin: Database
) -> None:
    requests = await limit_tenant(admin, own_tenant, LimitKind.REQUESTS, 3)
    tokens = await limit_tenant(admin, own_tenant, LimitKind.TOKENS, 100_000)
    slow = to("vllm_anthropic", "a", first_byte_seconds=0.1)
    handlers = {"vllm_anthropic": silent, "anthropic": answering(ANSWER)}
    async with providers(stage, handlers, of=own_tenant) as (gateway, found):
        await route(gateway, own_tenant, "claude-test", slow, TARGETS[1])
        assert (await gateway.ask(post(own_tenant.token))).body == ANSWER
        estimate = len(BODY) // 4
        await until_agreed(gateway, requests, settled=2)
        await until_agreed(gateway, tokens, settled=estimate + 7)
        # One is left: the slow one takes it, and there is none for the other.
        refused = await gateway.ask(post(own_tenant.token))
        assert (refused.status, refused.headers["x-should-retry"]) == (429, "true")
        await until_agreed(gateway, requests, settled=3)
        await until_agreed(gateway, tokens, settled=2 * estimate + 7)
        assert found["anthropic"].received.count(b"POST ") == 1
        await gateway.settled(3)


async def test_a_limit_on_a_model_is_on_the_name_that_is_asked_for(
    stage: Stage, own_tenant: Tenant, admin: Database
) -> None:
    limit = await limit_tenant(admin, own_tenant, LimitKind.REQUESTS, 5, model="claude-test")
    async with providers(stage, {"anthropic": answering(ANSWER)}, of=own_tenant) as (gateway, _):
        await route(gateway, own_tenant, "claude-test", to("anthropic", "b"))
        assert (await gateway.ask(post(own_tenant.token))).body == ANSWER
        await until_agreed(gateway, limit, settled=1)

"""Limits as a client meets them: how many requests pass, and what the one that does not is told, in both
dialects."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import trio

from storage.bridge import Database, open_database
from storage.model import LimitKind, Period
from tests.gateway.conftest import Stage, Tenant
from tests.gateway.limiting import (
    DOLLAR,
    UNKNOWN_RATE,
    ask_until_refused,
    limit_tenant,
    sums_of,
)
from tests.support.gateway import PATIENCE_SECONDS
from tests.support.raw_client import Answer
from tests.support.requests import ANSWER, BODY, chat, get, post
from tests.support.scripted_provider import Line, answering

CHAT = b'{"model":"gpt-test","max_tokens":10,"messages":[]}'
ASKS = {"anthropic": post, "openai": lambda token: chat(token, CHAT)}
OF_KEY = pytest.mark.parametrize("of_key", [True, False], ids=["key", "org"])
DIALECTS = pytest.mark.parametrize("dialect", list(ASKS))
# Of 10 tokens of output and a body this short: what is set apart before anything is known.
WORST_TOKENS = 1_000 + len(BODY) // 2 + 10
USED_TOKENS = 7


@pytest.fixture
async def admin(own_tenant: Tenant) -> AsyncIterator[Database]:
    """The control plane's view of the tenant's own database."""
    async with open_database(own_tenant.database_url, role="karta_admin") as db:
        yield db


def error_of(answer: Answer, dialect: str) -> dict[str, Any]:
    """The error of a refusal; its wrapping is as the API has it."""
    body = json.loads(answer.body)
    request_id = answer.headers["x-karta-request-id"]
    if dialect == "anthropic":
        assert (body["type"], body["request_id"]) == ("error", request_id)
        assert answer.headers["request-id"] == request_id
    else:
        assert list(body) == ["error"]
        assert answer.headers["x-request-id"] == request_id
    error: dict[str, Any] = body["error"]
    return error


def rate_limited(answer: Answer, dialect: str) -> str:
    """The message of a 429 that may be tried again."""
    assert (answer.status, answer.headers["x-should-retry"]) == (429, "true")
    error = error_of(answer, dialect)
    if dialect == "anthropic":
        assert error["type"] == "rate_limit_error"
    else:
        assert (error["type"], error["code"], error["param"]) == ("requests", "rate_limit_exceeded", None)
    return str(error["message"])


def budget_spent(answer: Answer, dialect: str) -> str:
    """The message of a spent budget, as each API tells it; nobody is told to come again."""
    assert answer.headers["x-should-retry"] == "false"
    assert "retry-after" not in answer.headers
    error = error_of(answer, dialect)
    if dialect == "anthropic":
        assert (answer.status, error["type"]) == (402, "billing_error")
    else:
        assert answer.status == 429
        assert (error["type"], error["code"]) == ("insufficient_quota", "insufficient_quota")
    return str(error["message"])


@OF_KEY
@DIALECTS
async def test_requests_of_a_minute(
    dialect: str, of_key: bool, stage: Stage, own_tenant: Tenant, admin: Database
) -> None:
    await limit_tenant(admin, own_tenant, LimitKind.REQUESTS, 3, Period.MINUTE, of_key=of_key)
    async with stage(answering(ANSWER), of=own_tenant) as (gateway, provider), gateway.client() as client:
        # The minute may turn in between.
        began = datetime.now(UTC)
        passed, refused = await ask_until_refused(client, ASKS[dialect](own_tenant.token), 6)
        assert passed >= 3
        rows = await gateway.settled(passed)
    assert len(provider.received.split(b"\r\n\r\n")) - 1 == passed
    assert refused.headers["x-karta-request-id"] not in {row["request_id"].hex for row in rows}
    whose = "This key" if of_key else "This organization"
    assert rate_limited(refused, dialect) == f"{whose} has used up 3 requests this minute."
    seconds = int(refused.headers["retry-after"])
    assert 1 <= seconds <= 60
    if dialect == "anthropic":
        assert refused.headers["anthropic-ratelimit-requests-limit"] == "3"
        assert refused.headers["anthropic-ratelimit-requests-remaining"] == "0"
        reset = datetime.fromisoformat(refused.headers["anthropic-ratelimit-requests-reset"])
        assert reset.second == 0
        assert began < reset <= datetime.now(UTC) + timedelta(minutes=1)
    else:
        assert refused.headers["x-ratelimit-limit-requests"] == "3"
        assert refused.headers["x-ratelimit-remaining-requests"] == "0"
        assert refused.headers["x-ratelimit-reset-requests"] == f"{seconds}s"


@OF_KEY
@DIALECTS
async def test_tokens_of_a_minute(
    dialect: str, of_key: bool, stage: Stage, own_tenant: Tenant, admin: Database
) -> None:
    # Each sets its worst case apart and uses a few: so the last that passes leaves less than a worst case.
    limit = WORST_TOKENS + 5 * USED_TOKENS
    await limit_tenant(admin, own_tenant, LimitKind.TOKENS, limit, Period.MINUTE, of_key=of_key)
    answer = ANSWER if dialect == "anthropic" else CHAT_ANSWER
    async with stage(answering(answer), of=own_tenant) as (gateway, _), gateway.client() as client:
        passed, refused = await ask_until_refused(client, ASKS[dialect](own_tenant.token), 12)
    assert passed >= 6
    whose = "This key" if of_key else "This organization"
    assert rate_limited(refused, dialect) == f"{whose} has used up {limit} tokens this minute."
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    if dialect == "anthropic":
        assert refused.headers["anthropic-ratelimit-tokens-limit"] == str(limit)
        left = int(refused.headers["anthropic-ratelimit-tokens-remaining"])
    else:
        assert refused.headers["x-ratelimit-limit-tokens"] == str(limit)
        left = int(refused.headers["x-ratelimit-remaining-tokens"])
    assert 0 <= left < WORST_TOKENS + 10


CHAT_ANSWER = (
    b'{"object":"chat.completion","model":"gpt-test","usage":{"prompt_tokens":3,"completion_tokens":4}}'
)


@OF_KEY
@DIALECTS
async def test_requests_at_once(
    dialect: str, of_key: bool, stage: Stage, own_tenant: Tenant, admin: Database
) -> None:
    await limit_tenant(admin, own_tenant, LimitKind.CONCURRENT, 2, of_key=of_key)
    go_on = trio.Event()

    async def provider(line: Line) -> None:
        while (await line.read_request())[0]:
            await go_on.wait()
            await line.answer(ANSWER)

    request = ASKS[dialect](own_tenant.token)
    async with (
        stage(provider, of=own_tenant) as (gateway, provider_),
        gateway.client() as first,
        gateway.client() as second,
    ):
        for number, client in enumerate((first, second), 1):
            await client.send(request)
            await until_asked(provider_, number)
        refused = await gateway.ask(request)
        whose = "this key" if of_key else "this organization"
        assert rate_limited(refused, dialect) == f"2 requests at once is the limit for {whose}."
        assert refused.headers["retry-after"] == "1"
        go_on.set()
        assert [(await client.read_answer()).status for client in (first, second)] == [200, 200]
        # What ends makes room.
        assert (await gateway.ask(request)).status == 200
        assert len(await gateway.settled(3)) == 3


async def until_asked(provider: Any, number: int) -> None:
    with trio.fail_after(PATIENCE_SECONDS):
        while len([line for line in provider.lines if b"\r\n\r\n" in line.received]) < number:
            await trio.sleep(0.01)


@OF_KEY
@pytest.mark.parametrize("period", [Period.DAY, Period.MONTH])
@DIALECTS
async def test_a_budget(
    dialect: str, period: Period, of_key: bool, stage: Stage, own_tenant: Tenant, admin: Database
) -> None:
    # The model is unknown, so that each token is charged the default: room for one worst case, and for two
    # answers beside it.
    answer = ANSWER if dialect == "anthropic" else CHAT_ANSWER
    charged = (3 + 4) * UNKNOWN_RATE
    amount = WORST_TOKENS * UNKNOWN_RATE + 2 * charged
    await limit_tenant(admin, own_tenant, LimitKind.MONEY, amount, period, of_key=of_key)
    async with stage(answering(answer), of=own_tenant) as (gateway, provider), gateway.client() as client:
        passed, refused = await ask_until_refused(client, ASKS[dialect](own_tenant.token), 3)
        rows = await gateway.settled(passed)
        assert provider.received.count(b" HTTP/1.1\r\n") == passed
    assert passed == 3
    assert {row["charged_picodollars"] for row in rows} == {charged}
    assert {row["cost_picodollars"] for row in rows} == {None}
    assert refused.headers["x-karta-request-id"] not in {row["request_id"].hex for row in rows}
    whose = "this key" if of_key else "this organization"
    when = "today" if period is Period.DAY else "this month"
    assert budget_spent(refused, dialect) == (
        f"Spent or reserved {when}: the budget of {as_dollars(amount)} for {whose}; it is raised with "
        "`karta budget set`."
    )
    assert not [name for name in refused.headers if "ratelimit" in name]


def as_dollars(picodollars: int) -> str:
    """Two digits behind the point at least, and more where there are more."""
    whole, _, rest = f"{Decimal(picodollars) / DOLLAR:f}".partition(".")
    return f"${whole}.{rest:0<2}"


@DIALECTS
async def test_a_budget_smaller_than_one_request(
    dialect: str, stage: Stage, own_tenant: Tenant, admin: Database
) -> None:
    await limit_tenant(admin, own_tenant, LimitKind.MONEY, UNKNOWN_RATE)
    async with stage(answering(ANSWER), of=own_tenant) as (gateway, provider):
        refused = await gateway.ask(ASKS[dialect](own_tenant.token))
        assert provider.received == b""
        assert await sums_of(gateway.db, own_tenant.org_id) == {"requests": 0, "money": 0, "tokens": 0}
    assert budget_spent(refused, dialect) == (
        "This request alone may cost more than the budget of $0.0001 for this key: ask for a smaller answer; "
        "it is raised with `karta budget set`."
    )


@pytest.mark.parametrize("leaves", [True, False], ids=["client", "provider"])
async def test_who_leaves_before_the_figures_come_uses_up_what_was_set_apart(
    *, leaves: bool, stage: Stage, own_tenant: Tenant, admin: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time that the model had counts, for most of what it puts out may not have been heard. What the
    provider failed at is charged as it was heard."""
    monkeypatch.setattr("gateway.tally.UNHEARD_TOKENS_PER_SECOND", 10**9)
    worst = WORST_TOKENS * UNKNOWN_RATE
    heard = len(BODY) // 4 * UNKNOWN_RATE
    await limit_tenant(admin, own_tenant, LimitKind.MONEY, 2 * worst)

    async def provider(line: Line) -> None:
        await line.read_request()
        await line.send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{")
        if leaves:
            await line.wait_closed()

    async with stage(provider, of=own_tenant) as (gateway, _):
        heads = []
        for passed in (1, 2, 2 if leaves else 3):
            async with gateway.client() as client:
                await client.send(post(own_tenant.token, close=True))
                heads.append(await client.read_until(b"\r\n\r\n"))
                if not leaves:
                    await client.read_to_end()
            rows = await gateway.settled(passed)
        reserved = gateway.worker.refill.ledger.reserved()
    assert [int(head.split()[1]) for head in heads] == [200, 200, 402 if leaves else 200]
    assert {row["charged_picodollars"] for row in rows} == {worst if leaves else heard}
    assert {row["output_tokens"] for row in rows} == {0}
    assert reserved == dict.fromkeys(LimitKind, 0)


@DIALECTS
async def test_a_request_larger_than_the_limit_is_told_so_and_not_to_come_again(
    dialect: str, stage: Stage, own_tenant: Tenant, admin: Database
) -> None:
    await limit_tenant(admin, own_tenant, LimitKind.TOKENS, 500, Period.MINUTE, of_key=False)
    async with stage(answering(ANSWER), of=own_tenant) as (gateway, provider):
        refused = await gateway.ask(ASKS[dialect](own_tenant.token))
        assert provider.received == b""
    assert (refused.status, refused.headers["x-should-retry"]) == (429, "false")
    error = error_of(refused, dialect)
    assert error["message"] == (
        "This request alone may use more tokens than the limit of 500 for this organization: ask for less, "
        "or raise it with `karta limits set`."
    )
    assert error["type"] == ("rate_limit_error" if dialect == "anthropic" else "tokens")


async def test_a_limit_for_one_model_leaves_the_others_alone(
    stage: Stage, own_tenant: Tenant, admin: Database
) -> None:
    await limit_tenant(admin, own_tenant, LimitKind.REQUESTS, 2, model="claude-test")
    other = post(own_tenant.token, b'{"model":"claude-other","max_tokens":10,"messages":[]}')
    async with stage(answering(ANSWER), of=own_tenant) as (gateway, _), gateway.client() as client:
        passed, refused = await ask_until_refused(client, post(own_tenant.token), 2)
        assert passed == 2
        assert rate_limited(refused, "anthropic") == "This key and this model has used up 2 requests today."
        # OpenAI's SDK does not try again at all when it is told to wait longer.
        assert 1 <= int(refused.headers["retry-after"]) <= 120
        for _ in range(4):
            await client.send(other)
            assert (await client.read_answer()).status == 200


async def test_the_tightest_of_several_refuses_and_the_others_keep_nothing(
    stage: Stage, own_tenant: Tenant, admin: Database
) -> None:
    await limit_tenant(admin, own_tenant, LimitKind.REQUESTS, 100)
    await limit_tenant(admin, own_tenant, LimitKind.MONEY, 10 * DOLLAR, of_key=False)
    await limit_tenant(admin, own_tenant, LimitKind.REQUESTS, 2, of_key=False)
    async with stage(answering(ANSWER), of=own_tenant) as (gateway, _), gateway.client() as client:
        passed, refused = await ask_until_refused(client, post(own_tenant.token), 2)
        assert (passed, refused.status) == (2, 429)
        assert gateway.worker.refill.ledger.reserved() == dict.fromkeys(LimitKind, 0)


@pytest.mark.parametrize("kind", [LimitKind.REQUESTS, LimitKind.TOKENS, LimitKind.MONEY])
async def test_a_soft_limit_refuses_nothing(
    kind: LimitKind, stage: Stage, own_tenant: Tenant, admin: Database
) -> None:
    limit = await limit_tenant(admin, own_tenant, kind, 1, hard=False)
    async with stage(answering(ANSWER), of=own_tenant) as (gateway, _), gateway.client() as client:
        for _ in range(4):
            await client.send(post(own_tenant.token))
            assert (await client.read_answer()).status == 200
        await gateway.settled(4)
        sums = await sums_of(gateway.db, own_tenant.org_id)
        settled = await gateway.db.fetch_value(
            "SELECT settled FROM quota_windows WHERE limit_id = $1", limit.limit_id
        )
        told = await gateway.db.fetch("SELECT threshold FROM budget_events ORDER BY threshold")
    assert settled == sums[kind.value] > 1
    assert [row["threshold"] for row in told] == ([50, 80, 100] if kind is LimitKind.MONEY else [])


async def test_what_is_not_metered_needs_no_budget_but_counts_as_a_request(
    stage: Stage, own_tenant: Tenant, admin: Database
) -> None:
    await limit_tenant(admin, own_tenant, LimitKind.MONEY, 1)
    await limit_tenant(admin, own_tenant, LimitKind.REQUESTS, 2)
    async with stage(answering(b"{}"), of=own_tenant) as (gateway, _), gateway.client() as client:
        passed, refused = await ask_until_refused(client, get(own_tenant.token), 2)
        assert passed == 2
        assert "2 requests" in rate_limited(refused, "anthropic")


BATCH = b'{"requests":[{"custom_id":"a","params":{"model":"claude-test"}}]}'
BACKGROUND = b'{"model":"gpt-test","input":"x","background":true}'
ELSEWHERE = {
    "a batch of anthropic's": lambda token: post(token, BATCH, path="/v1/messages/batches"),
    "a batch of openai's": lambda token: chat(token, b'{"input_file_id":"f"}', path="/v1/batches"),
    "a background response": lambda token: chat(token, BACKGROUND, path="/v1/responses"),
}


@pytest.mark.parametrize("name", list(ELSEWHERE))
async def test_a_hard_budget_refuses_what_tells_no_cost(
    name: str, stage: Stage, own_tenant: Tenant, admin: Database
) -> None:
    await limit_tenant(admin, own_tenant, LimitKind.MONEY, 1000 * DOLLAR, of_key=False)
    async with stage(answering(b"{}"), of=own_tenant) as (gateway, provider):
        refused = await gateway.ask(ELSEWHERE[name](own_tenant.token))
        assert provider.received == b""
    assert (refused.status, refused.headers["x-should-retry"]) == (403, "false")
    assert b"--billed-elsewhere" in refused.body


@pytest.mark.parametrize("name", list(ELSEWHERE))
async def test_a_scope_or_a_soft_budget_lets_it_pass(
    name: str, stage: Stage, own_tenant: Tenant, admin: Database
) -> None:
    await limit_tenant(admin, own_tenant, LimitKind.MONEY, 1, of_key=False, hard=False)
    if name != "a background response":
        await limit_tenant(admin, own_tenant, LimitKind.MONEY, 1)
    else:
        # What it may come to is set apart all the same.
        await limit_tenant(admin, own_tenant, LimitKind.MONEY, 1000 * DOLLAR)
    await admin.execute("UPDATE api_keys SET billed_elsewhere = true WHERE key_id = $1", own_tenant.key_id)
    async with stage(answering(b"{}"), of=own_tenant) as (gateway, _):
        assert (await gateway.ask(ELSEWHERE[name](own_tenant.token))).status == 200

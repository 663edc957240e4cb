"""What is learnt of late is charged to limits once, however often and by whichever worker it is seen."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trio

from storage.bridge import Database, open_database
from storage.model import Limit, LimitKind
from tests.gateway.conftest import Stage, Tenant
from tests.gateway.limiting import DOLLAR, account_of, limit_tenant, sums_of
from tests.support.gateway import PATIENCE_SECONDS, RunningGateway
from tests.support.requests import chat, get, post
from tests.support.scripted_provider import Line


@pytest.fixture
async def admin(own_tenant: Tenant) -> AsyncIterator[Database]:
    """The control plane's view of the tenant's own database. Its key may be billed elsewhere."""
    async with open_database(own_tenant.database_url, role="karta_admin") as db:
        await db.execute("UPDATE api_keys SET billed_elsewhere = true WHERE key_id = $1", own_tenant.key_id)
        yield db


def lines(*documents: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(document, separators=(",", ":")).encode() + b"\n" for document in documents)


def message(tokens: int) -> dict[str, Any]:
    usage = {"input_tokens": tokens, "output_tokens": 10 * tokens}
    return {"id": f"msg_{tokens}", "type": "message", "model": "claude-sonnet-4-5", "usage": usage}


def completion(tokens: int) -> dict[str, Any]:
    usage = {"prompt_tokens": tokens, "completion_tokens": 10 * tokens}
    return {"id": f"chatcmpl-{tokens}", "object": "chat.completion", "model": "gpt-4o", "usage": usage}


RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "model": "gpt-4o",
    "background": True,
    "status": "completed",
    "usage": {"input_tokens": 3, "output_tokens": 30},
}


class Late(NamedTuple):
    """A look at work of earlier: its path and answer, who may ask, and what it tells."""

    path: str
    answer: bytes
    ask: Callable[[str, str], bytes]
    works: int
    tokens: int
    money: int


def ask_anthropic(token: str, path: str) -> bytes:
    return get(token, path)


def ask_openai(token: str, path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: karta\r\nauthorization: Bearer {token}\r\n\r\n".encode()


# A batch costs half: 1.50 and 7.50 dollars a million for Anthropic's model, 1.25 and 5 for OpenAI's.
LATE = {
    "an Anthropic batch": Late(
        "/v1/messages/batches/msgbatch_1/results",
        lines(
            *(
                {"custom_id": str(number), "result": {"type": "succeeded", "message": message(number)}}
                for number in (1, 2)
            ),
            {"custom_id": "3", "result": {"type": "canceled"}},
        ),
        ask_anthropic,
        2,
        33,
        3 * 1_500_000 + 30 * 7_500_000,
    ),
    "an OpenAI batch": Late(
        "/v1/files/file-1/content",
        lines(
            *(
                {
                    "id": f"batch_req_{number}",
                    "custom_id": "same",
                    "response": {"status_code": 200, "body": completion(number)},
                }
                for number in (1, 2)
            )
        ),
        ask_openai,
        2,
        33,
        3 * 1_250_000 + 30 * 5_000_000,
    ),
    "a background response": Late(
        "/v1/responses/resp_1",
        json.dumps(RESPONSE, separators=(",", ":")).encode(),
        ask_openai,
        1,
        33,
        3 * 2_500_000 + 30 * 10_000_000,
    ),
}


async def until_told(gateways: list[RunningGateway], limit: Limit, settled: int) -> None:
    """So much is settled, and the database holds for the workers exactly what they have free."""
    found: object = None
    with trio.move_on_after(PATIENCE_SECONDS):
        while True:
            for gateway in gateways:
                await gateway.worker.shipper.ship_all()
            accounts = [await account_of(gateway, limit) for gateway in gateways]
            free = sum(account.balance + account.reserved for account in accounts)
            found = accounts[0].settled, accounts[0].written_off, accounts[0].held - free
            if found == (settled, 0, 0):
                return
            await trio.sleep(0.05)
    raise AssertionError(f"settled, written off, held in excess: {found}; settled should be {settled}")


@pytest.mark.parametrize("name", list(LATE))
async def test_late_work_is_charged_once(
    name: str, stage: Stage, own_tenant: Tenant, admin: Database, tmp_path: Path
) -> None:
    late = LATE[name]

    async def provider(line: Line) -> None:
        while (await line.read_request())[0]:
            await line.answer(late.answer)

    limits = [
        await limit_tenant(admin, own_tenant, LimitKind.REQUESTS, 1000, of_key=False),
        await limit_tenant(admin, own_tenant, LimitKind.TOKENS, 1_000_000),
        await limit_tenant(admin, own_tenant, LimitKind.MONEY, 10 * DOLLAR, of_key=False),
    ]
    request = late.ask(own_tenant.token, late.path)
    async with (
        stage(provider, of=own_tenant) as (first, provider_),
        stage(provider, of=own_tenant, spool_dir=tmp_path / "second", provider_url=provider_.base_url) as (
            second,
            _,
        ),
    ):
        for gateway in (first, second, first, second):
            assert (await gateway.ask(request)).body == late.answer
        for limit, settled in zip(limits, (4 + late.works, late.tokens, late.money), strict=True):
            await until_told([first, second], limit, settled)
        sums = await sums_of(first.db, own_tenant.org_id)
        assert sums == {"requests": 4 + late.works, "tokens": late.tokens, "money": late.money}


async def test_what_is_learnt_late_spends_the_budget(
    stage: Stage, own_tenant: Tenant, admin: Database
) -> None:
    late = LATE["an Anthropic batch"]

    async def provider(line: Line) -> None:
        while (await line.read_request())[0]:
            await line.answer(late.answer)

    limit = await limit_tenant(admin, own_tenant, LimitKind.MONEY, late.money)
    async with stage(provider, of=own_tenant) as (gateway, provider_):
        assert (await gateway.ask(late.ask(own_tenant.token, late.path))).status == 200
        await until_told([gateway], limit, late.money)
        body = b'{"model":"claude-sonnet-4-5","max_tokens":1,"messages":[]}'
        assert (await gateway.ask(post(own_tenant.token, body))).status == 402
        assert provider_.received.count(b"POST") == 0


@pytest.mark.parametrize("name", list(LATE))
async def test_late_work_is_charged_to_the_limits_of_its_model(
    name: str, stage: Stage, own_tenant: Tenant, admin: Database
) -> None:
    """By what answered, since a look names no model; and then there is no room for another of it."""
    late = LATE[name]
    model = "claude-sonnet-4-5" if late.ask is ask_anthropic else "gpt-4o"

    async def provider(line: Line) -> None:
        while (await line.read_request())[0]:
            await line.answer(late.answer)

    tokens = await limit_tenant(admin, own_tenant, LimitKind.TOKENS, 10**9, of_key=False, model=model)
    other = await limit_tenant(admin, own_tenant, LimitKind.TOKENS, 10**9, of_key=False, model="other")
    money = await limit_tenant(admin, own_tenant, LimitKind.MONEY, late.money, model=model)
    async with stage(provider, of=own_tenant) as (gateway, provider_):
        for _ in range(2):
            assert (await gateway.ask(late.ask(own_tenant.token, late.path))).status == 200
        await gateway.settled(2 + late.works)
        await until_settled(gateway, money, late.money)
        await until_settled(gateway, tokens, late.tokens)
        assert await settled_of(gateway, other) == 0
        body = b'{"model":"%s","max_tokens":1,"messages":[]}' % model.encode()
        make, status = (post, 402) if late.ask is ask_anthropic else (chat, 429)
        assert (await gateway.ask(make(own_tenant.token, body))).status == status
        assert provider_.received.count(b"POST") == 0
        assert (await gateway.ask(make(own_tenant.token, body.replace(model.encode(), b"o1")))).status == 200


async def settled_of(gateway: RunningGateway, limit: Limit) -> int:
    sql = "SELECT coalesce(sum(settled), 0)::bigint FROM quota_windows WHERE limit_id = $1"
    return int(await gateway.db.fetch_value(sql, limit.limit_id))


async def until_settled(gateway: RunningGateway, limit: Limit, settled: int) -> None:
    """In the database; the worker itself has nothing of it."""
    with trio.fail_after(PATIENCE_SECONDS):
        while await settled_of(gateway, limit) != settled:
            await gateway.worker.shipper.ship_all()
            await trio.sleep(0.05)


async def test_a_streamed_background_response_is_charged_when_it_ends(
    stage: Stage, own_tenant: Tenant, admin: Database
) -> None:
    """Told by its own stream, and again by a later look: once."""
    done = json.dumps({"type": "response.completed", "response": RESPONSE}, separators=(",", ":")).encode()

    async def provider(line: Line) -> None:
        while True:
            head, body = await line.read_request()
            if not head:
                return
            if body:
                await line.begin_stream()
                await line.send_chunk(b"event: response.completed\ndata: " + done + b"\n\n")
                await line.end_stream()
            else:
                await line.answer(LATE["a background response"].answer)

    money = await limit_tenant(admin, own_tenant, LimitKind.MONEY, 10 * DOLLAR)
    # The stream's request named it, whatever the answer calls it.
    named = await limit_tenant(admin, own_tenant, LimitKind.TOKENS, 10**9, model="by-this-name")
    late = LATE["a background response"]
    body = b'{"model":"by-this-name","input":"x","background":true,"stream":true,"max_output_tokens":9}'
    async with stage(provider, of=own_tenant) as (gateway, _):
        assert (await gateway.ask(chat(own_tenant.token, body, path="/v1/responses"))).status == 200
        await until_told([gateway], money, late.money)
        assert (await gateway.ask(late.ask(own_tenant.token, late.path))).status == 200
        await gateway.settled(3)
        await until_told([gateway], money, late.money)
        await until_told([gateway], named, late.tokens)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("agreed", [True, False, None])
async def test_what_was_asked_for_in_the_background_is_charged_once_wherever_it_is_told(
    *, agreed: bool | None, streamed: bool, stage: Stage, own_tenant: Tenant, admin: Database
) -> None:
    """Also when a provider answers at once, having agreed to the background or not even read of it."""
    response = RESPONSE | {"background": agreed}
    if agreed is None:
        del response["background"]
    told = json.dumps(response, separators=(",", ":")).encode()

    async def provider(line: Line) -> None:
        while True:
            head, body = await line.read_request()
            if not head:
                return
            if body and streamed:
                await line.begin_stream()
                await line.send_chunk(b'data: {"type":"response.completed","response":' + told + b"}\n\n")
                await line.end_stream()
            else:
                await line.answer(told)

    money = await limit_tenant(admin, own_tenant, LimitKind.MONEY, 10 * DOLLAR)
    late = LATE["a background response"]
    body = b'{"model":"gpt-4o","input":"x","background":true,"stream":%s,"max_output_tokens":9}'
    async with stage(provider, of=own_tenant) as (gateway, _):
        request = chat(own_tenant.token, body % (b"true" if streamed else b"false"), path="/v1/responses")
        assert (await gateway.ask(request)).status == 200
        await until_told([gateway], money, late.money)
        assert (await gateway.ask(late.ask(own_tenant.token, late.path))).status == 200
        await gateway.settled(3 if agreed else 2)
        await until_told([gateway], money, late.money)


async def test_a_receipt_counts_nothing_and_what_follows_it_once(
    stage: Stage, own_tenant: Tenant, admin: Database
) -> None:
    receipt = json.dumps(RESPONSE | {"status": "queued", "usage": None}).encode()

    async def provider(line: Line) -> None:
        while True:
            head, body = await line.read_request()
            if not head:
                return
            await line.answer(receipt if body else LATE["a background response"].answer)

    money = await limit_tenant(admin, own_tenant, LimitKind.MONEY, 10 * DOLLAR)
    late = LATE["a background response"]
    body = b'{"model":"gpt-4o","input":"x","background":true,"max_output_tokens":9}'
    async with stage(provider, of=own_tenant) as (gateway, _):
        assert (await gateway.ask(chat(own_tenant.token, body, path="/v1/responses"))).status == 200
        await gateway.settled(1)
        await until_told([gateway], money, 0)
        for rows in (3, 4):
            assert (await gateway.ask(late.ask(own_tenant.token, late.path))).status == 200
            await gateway.settled(rows)
            await until_told([gateway], money, late.money)


async def test_no_other_operation_has_a_background(stage: Stage, own_tenant: Tenant, admin: Database) -> None:
    """The word makes no request free, nor is it refused for it."""
    await admin.execute("UPDATE api_keys SET billed_elsewhere = false WHERE key_id = $1", own_tenant.key_id)
    answer = json.dumps(completion(3)).encode()

    async def provider(line: Line) -> None:
        while (await line.read_request())[0]:
            await line.answer(answer)

    money = await limit_tenant(admin, own_tenant, LimitKind.MONEY, 10 * DOLLAR)
    body = b'{"model":"gpt-4o","messages":[],"background":true,"max_tokens":9}'
    async with stage(provider, of=own_tenant) as (gateway, _):
        assert (await gateway.ask(chat(own_tenant.token, body))).status == 200
        await until_told([gateway], money, 3 * 2_500_000 + 30 * 10_000_000)

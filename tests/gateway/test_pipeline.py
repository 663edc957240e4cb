"""The life of a request: what happens at the same time, what never happens before the verdict, and what is
tried again."""

from __future__ import annotations

import pytest
import trio

from storage.request_ids import made_at
from tests.gateway.conftest import Stage, Tenant
from tests.support.gateway import PLATFORM_KEY
from tests.support.requests import ANSWER, BODY, chat, get, post
from tests.support.scripted_provider import Line, answering, scripted_provider, silent
from tests.support.tokens import forge


async def test_a_request_goes_up_with_the_platform_key_and_is_recorded(stage: Stage, tenant: Tenant) -> None:
    async def provider(line: Line) -> None:
        head, body = await line.read_request()
        assert f"x-api-key: {PLATFORM_KEY}".encode() in head
        assert tenant.token.encode() not in head
        assert body == BODY
        await line.answer(ANSWER, headers="request-id: req_1\r\n")
        await line.wait_closed()

    async with stage(provider, cold=True) as (gateway, _):
        answer = await gateway.ask(post(tenant.token))
        assert (answer.status, answer.body) == (200, ANSWER)
        row = await gateway.only_row()
    assert (row["org_id"], row["key_id"]) == (tenant.org_id, tenant.key_id)
    assert (row["input_tokens"], row["output_tokens"], row["usage_complete"]) == (3, 4, True)
    assert (row["provider_request_id"], row["status"]) == ("req_1", 200)
    assert row["request_id"].hex == answer.headers["x-karta-request-id"]
    told = made_at(row["request_id"])
    assert told is not None
    assert abs((told - row["started_at"]).total_seconds()) < 5


async def test_everything_but_sending_overlaps_verification(stage: Stage, tenant: Tenant) -> None:
    async with stage(answering(ANSWER), cold=True) as (gateway, _):
        await gateway.ask(post(tenant.token))
        verified = gateway.steps.index("verified")
        for step in ("body read", "looked up", "dialled"):
            assert gateway.steps.index(step) < verified
        # The next request knows its caller: there is nothing to overlap.
        gateway.steps.clear()
        await gateway.ask(post(tenant.token))
        assert "looked up" not in gateway.steps


async def test_no_prompt_byte_leaves_for_a_wrong_key(stage: Stage, tenant: Tenant) -> None:
    async with stage(silent, cold=True) as (gateway, provider):
        answer = await gateway.ask(post(forge(tenant.token)))
        assert answer.status == 401
        # It was connected to in advance, which is the point of the overlap, and told nothing.
        await provider.accepted.wait()
        assert provider.received == b""


async def by_end(line: Line) -> None:
    await line.stream.aclose()


async def by_reset(line: Line) -> None:
    await line.reset()


ENDS = pytest.mark.parametrize("end", [by_end, by_reset], ids=lambda end: end.__name__)
COLD = pytest.mark.parametrize("cold", [False, True], ids=["warm", "cold"])
SIZES = pytest.mark.parametrize("body", [BODY, BODY[:-1] + b" " * 100_000 + b"}"], ids=["small", "large"])


@ENDS
@COLD
@SIZES
async def test_an_idle_connection_that_ended_is_replaced(
    end: object, cold: bool, body: bytes, stage: Stage, tenant: Tenant
) -> None:
    may_end = trio.Event()
    ended = trio.Event()

    async def provider(line: Line) -> None:
        if len(provider_.lines) == 1:
            await line.read_request()
            await line.answer(ANSWER)
            await may_end.wait()
            await end(line)  # type: ignore[operator]
            ended.set()
        else:
            assert (await line.read_request())[1] == body
            await line.answer(ANSWER)
            await line.wait_closed()

    async with stage(provider) as (gateway, provider_):
        assert (await gateway.ask(post(tenant.token))).body == ANSWER
        may_end.set()
        await ended.wait()
        if cold:
            gateway.authenticator._verified.clear()
        assert (await gateway.ask(post(tenant.token, body))).body == ANSWER
        assert len(provider_.lines) == 2
        assert {row["outcome"] for row in await gateway.settled(2)} == {"completed"}


@ENDS
async def test_a_reused_connection_that_ends_unanswered_is_replaced_once(
    end: object, stage: Stage, tenant: Tenant
) -> None:
    """The provider closes as the second request arrives: on the old connection, and then on every new one."""

    async def provider(line: Line) -> None:
        await line.read_request()
        if len(provider_.lines) == 1:
            await line.answer(ANSWER)
            await line.read_request()
        await end(line)  # type: ignore[operator]

    async with stage(provider) as (gateway, provider_):
        assert (await gateway.ask(post(tenant.token))).body == ANSWER
        refused = await gateway.ask(post(tenant.token))
        assert (refused.status, refused.headers["x-should-retry"]) == (502, "false")
        assert len(provider_.lines) == 2
        assert provider_.received.count(b"POST /v1/messages") == 3
        assert [row["outcome"] for row in await gateway.settled(2)] == ["completed", "upstream_failed"]


async def test_an_answer_that_began_is_not_asked_for_again(stage: Stage, tenant: Tenant) -> None:
    async def provider(line: Line) -> None:
        await line.read_request()
        await line.answer(ANSWER)
        await line.read_request()
        await line.send(b"HTTP/1.1 200 O")

    async with stage(provider) as (gateway, provider_):
        assert (await gateway.ask(post(tenant.token))).body == ANSWER
        assert (await gateway.ask(post(tenant.token))).status == 502
        assert len(provider_.lines) == 1


async def test_an_early_answer_to_a_large_body_arrives(stage: Stage, tenant: Tenant) -> None:
    """The provider answers and closes without reading: that resets what is still being sent."""

    async def provider(line: Line) -> None:
        await line.read_head()
        await line.answer(b'{"early":true}', status="413 Payload Too Large", headers="connection: close\r\n")

    body = BODY[:-1] + b" " * 10_000_000 + b"}"
    async with stage(provider) as (gateway, _):
        answer = await gateway.ask(post(tenant.token, body))
        assert (answer.status, answer.body) == (413, b'{"early":true}')
        assert (await gateway.only_row())["status"] == 413


async def test_paths_and_queries_go_up_byte_for_byte(stage: Stage, tenant: Tenant) -> None:
    async with stage(answering(ANSWER)) as (gateway, provider):
        for asked, seen in (
            ("/v1/models?beta=true&key[]=a&x=%2F%2f+;", "/v1/models?beta=true&key[]=a&x=%2F%2f+;"),
            ("/v1/models/a%2Fb:c@d", "/v1/models/a%2Fb:c@d"),
            ("/anthropic/v1/models?", "/v1/models?"),
            ("/openai/v1/models", "/v1/models"),
        ):
            assert (await gateway.ask(get(tenant.token, asked))).status == 200
            assert provider.received.rpartition(b"GET ")[2].startswith(f"{seen} HTTP/1.1\r\n".encode())


async def test_a_base_url_with_a_path_goes_before(stage: Stage, tenant: Tenant) -> None:
    async with scripted_provider(answering(ANSWER)) as provider:
        async with stage(silent, provider_url=provider.base_url + "/prefix/") as (gateway, _):
            assert (await gateway.ask(get(tenant.token))).status == 200
        assert provider.received.startswith(b"GET /prefix/v1/models HTTP/1.1\r\n")


async def test_the_providers_key_goes_up_in_the_clients_style(stage: Stage, tenant: Tenant) -> None:
    async with stage(answering(ANSWER)) as (gateway, provider):
        await gateway.ask(post(tenant.token).replace(b"x-api-key: ", b"authorization: Bearer "))
        assert f"authorization: Bearer {PLATFORM_KEY}".encode() in provider.received
        assert b"x-api-key" not in provider.received
        # OpenAI knows one style, whatever its client used.
        await gateway.ask(chat(tenant.token).replace(b"authorization: Bearer ", b"x-api-key: "))
        assert provider.received.count(f"authorization: Bearer {PLATFORM_KEY}".encode()) == 2


async def test_of_two_keys_kartas_is_meant_and_two_of_those_are_too_many(
    stage: Stage, tenant: Tenant
) -> None:
    bearer = "authorization: Bearer {}\r\n"
    async with stage(answering(ANSWER)) as (gateway, provider):
        for request in (
            post(tenant.token, headers=bearer.format("sk-ant-oat-mine")),
            post("sk-ant-mine", headers=bearer.format(tenant.token)),
            post(tenant.token, headers=bearer.format(tenant.token)),
        ):
            assert (await gateway.ask(request)).status == 200
        refused = await gateway.ask(post(tenant.token, headers=bearer.format(tenant.test_token)))
        assert refused.status == 400
        assert b"mine" not in provider.received
        assert provider.received.count(b"POST") == 3


async def test_a_full_journal_stops_admission(
    stage: Stage, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that could not be counted is not served."""
    async with stage(answering(ANSWER)) as (gateway, provider):
        with monkeypatch.context() as patch:
            patch.setattr("gateway.spool.SPOOL_BYTES_MAX", 1)
            refused = await gateway.ask(post(tenant.token))
            assert (refused.status, refused.headers["x-should-retry"]) == (503, "true")
            assert 0 < int(refused.headers["retry-after"]) <= 120
            ready = await gateway.ask(b"GET /readyz HTTP/1.1\r\nhost: karta\r\n\r\n")
            assert (ready.status, b"spool" in ready.body) == (503, True)
            assert provider.lines == []
        assert (await gateway.ask(post(tenant.token))).body == ANSWER

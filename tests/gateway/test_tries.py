"""Routes and retries before the first byte: what goes up, what is told, and what is recorded."""

from __future__ import annotations

import gc
import json
from typing import Any

import msgspec
import pytest
import trio

from gateway.breaker import State
from gateway.decrypt import OpenedCredential
from gateway.members import STEPS_MAX
from gateway.refusal import Dialect
from gateway.tries import Tries
from storage.model import CredentialKind
from storage.routes import remove_route, set_route
from storage.settings import Bind
from tests.gateway.conftest import ACTOR, Stage, Tenant, set_byok
from tests.gateway.routing import providers, route, to
from tests.gateway.test_metrics import scrape
from tests.support.gateway import PATIENCE_SECONDS, PLATFORM_KEY, RunningGateway, poll
from tests.support.requests import ANSWER, BODY, chat, get, post
from tests.support.scripted_provider import Handler, Line, answering, silent
from tests.support.streams import ANTHROPIC, CHAT, STREAM_BODY, chunk

OWN_KEY = "sk-ant-own-secret-0001"
CHAT_ANSWER = (
    b'{"object":"chat.completion","model":"gpt-test-2","usage":{"prompt_tokens":3,"completion_tokens":4}}'
)


def saying(status: str, headers: str = "", *, times: int = 1_000_000, then: bytes = ANSWER) -> Handler:
    """A provider that says no so many times, and answers then."""
    left = [times]

    async def handler(line: Line) -> None:
        while (await line.read_request())[0]:
            left[0] -= 1
            if left[0] >= 0:
                await line.answer(b'{"no":"' + status.encode() + b'"}', status=status, headers=headers)
            else:
                await line.answer(then)

    return handler


async def dying(line: Line) -> None:
    await line.read_request()
    await line.reset()


async def garbled(line: Line) -> None:
    await line.read_request()
    await line.send(b"SSH-2.0-OpenSSH\r\n\r\n")
    await line.wait_closed()


def asked(received: bytes) -> int:
    return received.count(b"POST ")


async def figures(gateway: RunningGateway, *names: str) -> list[float]:
    url = gateway.worker.metrics_url
    assert url is not None
    found = await trio.to_thread.run_sync(scrape, url)
    return [found[f"karta_gateway_{name}"] for name in names]


# Routes.


async def test_an_alias_goes_to_its_target_and_only_its_name_is_changed(
    stage: Stage, own_tenant: Tenant
) -> None:
    body = b'{ "model" : "smart","n":1.0, "messages":[{"role":"user","content":"\\u00e9 \\"model\\": 1e2"}] }'
    async with providers(
        stage, {"openai": silent, "azure_openai": answering(CHAT_ANSWER)}, of=own_tenant
    ) as (gateway, found):
        await route(gateway, own_tenant, "smart", to("azure_openai", "my-deployment"))
        answer = await gateway.ask(chat(own_tenant.token, body))
        assert answer.body == CHAT_ANSWER
        assert answer.headers["x-karta-route"] == "azure_openai/my-deployment;attempts=1"
        assert "x-karta-route-tried" not in answer.headers
        row = await gateway.only_row()
    head, _, sent = found["azure_openai"].received.partition(b"\r\n\r\n")
    assert sent == body.replace(b'"smart"', b'"my-deployment"')
    assert b"content-length: %d" % len(sent) in head
    assert b"\r\napi-key: " + PLATFORM_KEY.encode() in head
    assert b"authorization" not in head.lower()
    assert found["openai"].received == b""
    assert (row["model_asked"], row["model_answered"], row["provider"]) == (
        "smart",
        "gpt-test-2",
        "azure_openai",
    )
    assert (row["input_tokens"], row["output_tokens"], row["outcome"]) == (3, 4, "completed")


async def test_a_routed_stream_is_asked_for_its_usage_and_freed_of_it(
    stage: Stage, own_tenant: Tenant
) -> None:
    async def provider(line: Line) -> None:
        await line.read_request()
        await line.begin_stream()
        for event in CHAT:
            await line.send_chunk(event)
        await line.end_stream()

    body = b'{"model":"smart","stream":true,"messages":[]}'
    handlers = {"openai": dying, "vllm": provider}
    async with providers(stage, handlers, of=own_tenant) as (gateway, found):
        await route(gateway, own_tenant, "smart", to("openai", "a"), to("vllm", "b"))
        answer = await gateway.ask(chat(own_tenant.token, body))
        assert answer.body == b"".join((*CHAT[:2], CHAT[3]))
        row = await gateway.only_row()
    assert (row["input_tokens"], row["output_tokens"], row["usage_complete"]) == (7, 5, True)
    for name, model in (("openai", b"a"), ("vllm", b"b")):
        sent = found[name].received.partition(b"\r\n\r\n")[2]
        assert (
            sent
            == b'{"stream_options":{"include_usage":true},"model":"%s","stream":true,"messages":[]}' % model
        )


async def test_a_form_is_not_routed(stage: Stage, own_tenant: Tenant) -> None:
    """Its model goes up as it is, so what is charged is that, and not what a route makes of the name."""
    body = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nsmart\r\n--b--'
    handlers = {"openai": answering(CHAT_ANSWER), "vllm": answering(CHAT_ANSWER)}
    async with providers(stage, handlers, of=own_tenant) as (gateway, found):
        await route(gateway, own_tenant, "smart", to("vllm", "b"))
        request = post(
            own_tenant.token,
            body,
            path="/v1/audio/transcriptions",
            content_type="multipart/form-data; boundary=b",
        )
        for _again in range(2):
            answer = await gateway.ask(request)
            assert (answer.status, "x-karta-route" in answer.headers) == (200, False)
        rows = await gateway.settled(2)
    assert [(row["model_asked"], row["provider"]) for row in rows] == [("smart", "openai")] * 2
    assert found["openai"].received.count(body) == 2
    assert found["vllm"].received == b""


async def test_a_body_with_too_many_parts_to_be_renamed_is_refused(stage: Stage, own_tenant: Tenant) -> None:
    body = b'{"model":"smart","x":[' + b"[]," * STEPS_MAX + b"1]}"
    async with providers(stage, {"openai": answering(CHAT_ANSWER)}, of=own_tenant) as (gateway, found):
        await route(gateway, own_tenant, "smart", to("openai", "a"))
        answer = await gateway.ask(chat(own_tenant.token, body))
        assert (answer.status, b"too many parts" in answer.body) == (400, True)
        row = await gateway.only_row()
    assert (row["status"], row["outcome"], row["input_tokens"]) == (400, "refused", 0)
    assert found["openai"].received == b""


async def test_other_models_go_where_they_always_went(stage: Stage, own_tenant: Tenant) -> None:
    async with (
        providers(stage, {"openai": answering(CHAT_ANSWER), "vllm": silent}, of=own_tenant) as (
            gateway,
            found,
        ),
        gateway.client() as client,
    ):
        await route(gateway, own_tenant, "smart", to("vllm"))
        for _ in range(4):
            await client.send(chat(own_tenant.token))
            answer = await client.read_answer()
            assert answer.body == CHAT_ANSWER
            assert "x-karta-route" not in answer.headers
        assert gateway.worker.lane.requests == 3
    assert found["vllm"].received == b""


@pytest.mark.parametrize("path", ["/v1/messages/count_tokens", "/v1/messages/count_tokens?beta=true"])
async def test_tokens_are_counted_where_they_would_be_used(
    path: str, stage: Stage, own_tenant: Tenant
) -> None:
    handlers = {"anthropic": silent, "vllm_anthropic": answering(b'{"input_tokens":12}')}
    async with providers(stage, handlers, of=own_tenant) as (gateway, found), gateway.client() as client:
        await route(gateway, own_tenant, "claude-test", to("vllm_anthropic", "a"))
        for _ in range(3):
            await client.send(post(own_tenant.token, path=path))
            assert (await client.read_answer()).body == b'{"input_tokens":12}'
        rows = await gateway.settled(3)
    assert found["vllm_anthropic"].received.count(b'{"model":"a"') == 3
    assert {(row["provider"], row["input_tokens"], row["cost_picodollars"]) for row in rows} == {
        ("vllm_anthropic", 0, 0)
    }


async def test_an_alias_does_not_take_the_lane(stage: Stage, own_tenant: Tenant) -> None:
    handlers = {"openai": answering(CHAT_ANSWER), "vllm": answering(CHAT_ANSWER)}
    async with providers(stage, handlers, of=own_tenant) as (gateway, found), gateway.client() as client:
        await route(gateway, own_tenant, "smart", to("vllm"))
        for model in ("x", "x", "smart", "smart", "x", "smart"):
            await client.send(chat(own_tenant.token, b'{"model":"%s"}' % model.encode()))
            answer = await client.read_answer()
            assert answer.body == CHAT_ANSWER
            assert ("x-karta-route" in answer.headers) is (model == "smart")
        assert gateway.worker.lane.requests == 2
    assert asked(found["openai"].received) == asked(found["vllm"].received) == 3


@pytest.mark.parametrize("behind", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison"])
async def test_the_connection_of_a_refusal_is_kept_when_nothing_follows_it(
    behind: bytes, stage: Stage, own_tenant: Tenant
) -> None:
    async def busy(line: Line) -> None:
        while (await line.read_request())[0]:
            await line.send(b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 2\r\n\r\n{}" + behind)

    handlers = {"vllm_anthropic": busy, "anthropic": answering(ANSWER)}
    async with providers(stage, handlers, of=own_tenant) as (gateway, found):
        await route(gateway, own_tenant, "claude-test", to("vllm_anthropic"), to("anthropic"))
        for _ in range(4):
            assert (await gateway.ask(post(own_tenant.token))).body == ANSWER
        await poll(lambda: all(pool.open == pool.idle for pool in gateway.worker.pools.all()))
    assert len(found["vllm_anthropic"].lines) == (4 if behind else 1)
    assert len(found["anthropic"].lines) == 1


async def test_a_removed_route_is_a_name_like_any_other(stage: Stage, own_tenant: Tenant) -> None:
    body = b'{"model":"smart","messages":[]}'
    async with providers(
        stage, {"openai": answering(CHAT_ANSWER), "vllm": answering(CHAT_ANSWER)}, of=own_tenant
    ) as (gateway, found):
        await route(gateway, own_tenant, "smart", to("vllm"))
        async with gateway.client() as client:
            for _ in range(3):
                await client.send(chat(own_tenant.token, body))
                assert "x-karta-route" in (await client.read_answer()).headers
            await remove_route(gateway.db, ACTOR, own_tenant.org_id, "smart")
            (caller,) = gateway.authenticator._verified.values()
            await poll(lambda: caller.routes is None)
            await client.send(chat(own_tenant.token, body))
            assert "x-karta-route" not in (await client.read_answer()).headers
    assert found["openai"].received.endswith(body)


FAILING: dict[str, tuple[Handler | None, str]] = {
    "dead": (None, "not-connected"),
    "resetting": (dying, "no-answer"),
    "garbled": (garbled, "broken-answer"),
    "slow": (silent, "too-slow"),
    **{
        status[:3]: (saying(status), status[:3])
        for status in ("408 Request Timeout", "409 Conflict", "429 Too Many Requests", "500 Internal")
    },
    **{status[:3]: (saying(status), status[:3]) for status in ("503 Service Unavailable", "529 Overloaded")},
    "429, pointless there": (saying("429 Too Many Requests", "x-should-retry: false\r\n"), "429"),
}


@pytest.mark.parametrize("fault", FAILING)
@pytest.mark.parametrize("streamed", [False, True], ids=["unary", "stream"])
async def test_the_next_target_sees_to_what_the_first_fails(
    fault: str, streamed: bool, nobody: str, stage: Stage, own_tenant: Tenant
) -> None:
    handler, word = FAILING[fault]
    framed = b"".join(map(chunk, ANTHROPIC)) + b"0\r\n\r\n"

    async def well(line: Line) -> None:
        while (await line.read_request())[0]:
            if streamed:
                await line.begin_stream()
                await line.send(framed)
            else:
                await line.answer(ANSWER)

    first = to("vllm_anthropic", "a", first_byte_seconds=0.1 if fault == "slow" else None)
    handlers = {"vllm_anthropic": nobody if handler is None else handler, "anthropic": well}
    async with providers(stage, handlers, of=own_tenant) as (gateway, found), gateway.client() as client:
        await route(gateway, own_tenant, "claude-test", first, to("anthropic", "claude-test"))
        await client.send(post(own_tenant.token, STREAM_BODY if streamed else BODY))
        if streamed:
            head = (await client.read_head()).raw.decode()
            assert await client.read_exactly(len(framed)) == framed
        else:
            answer = await client.read_answer()
            assert answer.body == ANSWER
            head = "".join(f"{name}: {value}\r\n" for name, value in answer.headers.items())
        assert "x-karta-route: anthropic/claude-test;attempts=2\r\n" in head
        assert f"x-karta-route-tried: vllm_anthropic/a;{word}\r\n" in head
        rows = await gateway.settled(2 if fault == "slow" else 1)
        # Of one moment, both: that of the request.
        rows.sort(key=lambda row: row["outcome"] == "completed")
        assert gateway.worker.pipeline.trier.failovers == 1
    assert asked(found["anthropic"].received) == 1
    if handler is not None:
        assert asked(found["vllm_anthropic"].received) == 1
    row = rows[-1]
    assert (row["provider"], row["model_asked"], row["outcome"], row["status"]) == (
        "anthropic",
        "claude-test",
        "completed",
        200,
    )
    assert (row["input_tokens"], row["output_tokens"]) == ((7, 5) if streamed else (3, 4))
    assert row["usage_complete"]
    if fault == "slow":
        # It may have been worked on.
        slow = rows[0]
        assert (slow["provider"], slow["outcome"], slow["status"]) == ("vllm_anthropic", "timed_out", 504)
        assert (slow["usage_complete"], slow["output_tokens"]) == (False, 0)
        assert slow["input_tokens"] > 0
        assert slow["request_id"] != row["request_id"]


async def test_what_is_wrong_with_the_request_is_not_asked_elsewhere(
    stage: Stage, own_tenant: Tenant
) -> None:
    said = saying("400 Bad Request", "request-id: req_1\r\n")
    async with providers(stage, {"vllm_anthropic": said, "anthropic": answering(ANSWER)}, of=own_tenant) as (
        gateway,
        found,
    ):
        await route(gateway, own_tenant, "claude-test", to("vllm_anthropic"), to("anthropic"))
        answer = await gateway.ask(post(own_tenant.token))
        assert (answer.status, answer.body) == (400, b'{"no":"400 Bad Request"}')
        assert answer.headers["request-id"] == "req_1"
    assert found["anthropic"].received == b""


async def test_the_last_answer_is_passed_on_as_it_came(stage: Stage, own_tenant: Tenant) -> None:
    busy = saying("429 Too Many Requests", "retry-after: 7\r\nx-should-retry: true\r\n")
    handlers = {"vllm_anthropic": dying, "anthropic": busy}
    async with providers(stage, handlers, of=own_tenant) as (gateway, _):
        await route(gateway, own_tenant, "claude-test", to("vllm_anthropic", "a"), to("anthropic", "b"))
        answer = await gateway.ask(post(own_tenant.token))
        assert (answer.status, answer.body) == (429, b'{"no":"429 Too Many Requests"}')
        assert (answer.headers["retry-after"], answer.headers["x-should-retry"]) == ("7", "true")
        assert answer.headers["x-karta-route"] == "anthropic/b;attempts=2"
        assert answer.headers["x-karta-route-tried"] == "vllm_anthropic/a;no-answer"
        row = await gateway.only_row()
    assert (row["status"], row["outcome"], row["charged_picodollars"]) == (429, "completed", 0)


async def test_when_nobody_answers_the_client_is_told_who_was_asked(
    nobody: str, stage: Stage, own_tenant: Tenant
) -> None:
    handlers = {"vllm_anthropic": dying, "anthropic": nobody}
    async with providers(stage, handlers, of=own_tenant, retries_max=0) as (gateway, found):
        await route(gateway, own_tenant, "claude-test", to("vllm_anthropic", "a"), to("anthropic", "b"))
        answer = await gateway.ask(post(own_tenant.token))
        assert (answer.status, answer.headers["x-should-retry"]) == (502, "false")
        assert (
            answer.headers["x-karta-route-tried"] == "vllm_anthropic/a;no-answer, anthropic/b;not-connected"
        )
        assert "x-karta-route" not in answer.headers
        row = await gateway.only_row()
    assert (row["status"], row["outcome"], row["provider"]) == (502, "upstream_failed", "anthropic")
    assert (row["input_tokens"], row["charged_picodollars"]) == (0, 0)
    assert asked(found["vllm_anthropic"].received) == 1


async def test_credentials_of_a_route(stage: Stage, own_tenant: Tenant) -> None:
    """The organization's own key first, and the platform's when that has no quota left."""

    async def provider(line: Line) -> None:
        while head := (await line.read_request())[0]:
            if OWN_KEY.encode() in head:
                await line.answer(b"{}", status="429 Too Many Requests")
            else:
                await line.answer(ANSWER)

    async with providers(stage, {"anthropic": provider}, of=own_tenant) as (gateway, _):
        credential_id = await set_byok(gateway.db, own_tenant, OWN_KEY)
        (caller,) = gateway.authenticator._verified.values()
        await poll(lambda: caller.key.credentials)
        targets = [
            to("anthropic", "claude-test", credential=kind)
            for kind in (CredentialKind.BYOK, CredentialKind.PLATFORM)
        ]
        await route(gateway, own_tenant, "claude-test", *targets)
        assert (await gateway.ask(post(own_tenant.token))).body == ANSWER
        row = await gateway.only_row()
        assert (row["credential_kind"], row["credential_id"]) == ("platform", None)
        await route(gateway, own_tenant, "claude-test", targets[0])
        assert (await gateway.ask(post(own_tenant.token))).status == 429
        assert (await gateway.settled(2))[1]["credential_id"] == credential_id


async def test_targets_that_cannot_be_used_are_passed_over(stage: Stage, own_tenant: Tenant) -> None:
    """No base URL, another API, no key of one's own: not tried, and if that is all there is, told."""
    unusable = (to("bedrock_openai"), to("openai"), to("anthropic", credential=CredentialKind.BYOK))
    async with providers(stage, {"anthropic": answering(ANSWER), "openai": silent}, of=own_tenant) as (
        gateway,
        found,
    ):
        await route(gateway, own_tenant, "claude-test", *unusable)
        answer = await gateway.ask(post(own_tenant.token))
        assert answer.status == 403
        told = json.loads(answer.body)["error"]["message"]
        assert "No target of the route 'claude-test' can be used: No provider key for anthropic" in told
        assert found["anthropic"].received == b""
        await route(gateway, own_tenant, "claude-test", *unusable, to("anthropic", "x"))
        answer = await gateway.ask(post(own_tenant.token))
        assert answer.headers["x-karta-route"] == "anthropic/x;attempts=1"
    assert found["openai"].received == b""


async def test_a_test_key_takes_no_route(stage: Stage, own_tenant: Tenant) -> None:
    async with providers(
        stage, {"anthropic": silent, "vllm_anthropic": answering(ANSWER)}, of=own_tenant
    ) as (gateway, found):
        await route(gateway, own_tenant, "claude-test", to("anthropic"))
        answer = await gateway.ask(post(own_tenant.test_token))
        assert answer.status == 503
    assert found["anthropic"].received == b""


async def test_weights_share_out_the_first_try(stage: Stage, own_tenant: Tenant) -> None:
    handlers = {"anthropic": answering(ANSWER), "vllm_anthropic": answering(ANSWER)}
    async with providers(stage, handlers, of=own_tenant) as (gateway, found):
        await route(
            gateway,
            own_tenant,
            "claude-test",
            to("anthropic", weight=1),
            to("vllm_anthropic", weight=3),
        )
        for _ in range(200):
            assert (await gateway.ask(post(own_tenant.token))).headers["x-karta-route"].endswith("attempts=1")
    shares = [asked(found[name].received) for name in handlers]
    assert sum(shares) == 200
    # Of 50 expected, six standard deviations either way.
    assert 14 <= shares[0] <= 86


# The same target once more.


@pytest.mark.parametrize("lane", [False, True], ids=["task", "lane"])
@pytest.mark.parametrize("status", ["503 Service Unavailable", "529 Overloaded"])
async def test_not_now_is_asked_once_more(lane: bool, status: str, stage: Stage, tenant: Tenant) -> None:
    said = [status] * 2

    async def provider(line: Line) -> None:
        while body := (await line.read_request())[1]:
            if body == BODY or not said:
                await line.answer(ANSWER)
            else:
                await line.answer(b'{"a":1}', status=said.pop())

    async with stage(provider) as (gateway, provider_), gateway.client() as client:
        if lane:
            for _ in range(2):
                await client.send(post(tenant.token))
                assert (await client.read_answer()).body == ANSWER
        before = asked(provider_.received)
        await client.send(post(tenant.token, b'{"model":"x"}'))
        answer = await client.read_answer()
        # Twice it said so: the second time is the client's to know.
        assert (answer.status, answer.body) == (int(status[:3]), b'{"a":1}')
        assert "x-karta-route" not in answer.headers
        assert asked(provider_.received) == before + 2
        await client.send(post(tenant.token, b'{"model":"x"}'))
        assert (await client.read_answer()).body == ANSWER
        (pool,) = gateway.worker.pools.all()
        assert pool.retried == 1
        rows = await gateway.settled(4 if lane else 2)
        assert [row["status"] for row in rows[-2:]] == [int(status[:3]), 200]
        assert pool.open == pool.idle


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        ("429 Too Many Requests", ""),
        ("500 Internal", ""),
        ("502 Bad Gateway", ""),
        ("503 Service Unavailable", "x-should-retry: false\r\n"),
        ("503 Service Unavailable", "retry-after: 20\r\n"),
        ("529 Overloaded", "retry-after-ms: 60000\r\n"),
    ],
)
@pytest.mark.parametrize("lane", [False, True], ids=["task", "lane"])
async def test_the_rest_is_left_to_the_sdk(
    lane: bool, status: str, headers: str, stage: Stage, tenant: Tenant
) -> None:
    async def provider(line: Line) -> None:
        while body := (await line.read_request())[1]:
            if body == BODY:
                await line.answer(ANSWER)
            else:
                await line.answer(b'{"a":1}', status=status, headers=headers)

    async with stage(provider) as (gateway, provider_), gateway.client() as client:
        if lane:
            for _ in range(2):
                await client.send(post(tenant.token))
                assert (await client.read_answer()).body == ANSWER
        before = asked(provider_.received)
        await client.send(post(tenant.token, b'{"model":"x"}'))
        answer = await client.read_answer()
        assert (answer.status, answer.body) == (int(status[:3]), b'{"a":1}')
        assert asked(provider_.received) == before + 1
        assert all(f"{name}: {value}\r\n".encode() in answer.raw for name, value in _fields(headers))


def _fields(headers: str) -> list[tuple[str, str]]:
    return [tuple(line.split(": ")) for line in headers.split("\r\n") if line]  # type: ignore[misc]


async def test_a_provider_s_wish_to_wait_is_kept(stage: Stage, tenant: Tenant) -> None:
    said = saying("503 Service Unavailable", "retry-after-ms: 700\r\n", times=1)
    async with stage(said) as (gateway, provider), gateway.client() as client:
        began = trio.current_time()
        await client.send(post(tenant.token))
        assert (await client.read_answer()).body == ANSWER
        assert trio.current_time() - began >= 0.7
    assert asked(provider.received) == 2


async def test_a_broken_connection_is_replaced_once_for_what_makes_nothing(
    stage: Stage, tenant: Tenant
) -> None:
    async def provider(line: Line) -> None:
        await line.read_request()
        if len(provider_.lines) == 1:
            await line.reset()
        else:
            await line.answer(ANSWER)

    async with stage(provider) as (gateway, provider_):
        assert (await gateway.ask(post(tenant.token))).body == ANSWER
        assert (await gateway.only_row())["outcome"] == "completed"
    assert [asked(line.received) for line in provider_.lines] == [1, 1]


async def test_what_makes_something_is_not_sent_twice(stage: Stage, tenant: Tenant) -> None:
    """A batch: nobody knows whether the first one began."""
    async with stage(dying) as (gateway, provider):
        answer = await gateway.ask(post(tenant.token, b'{"requests":[]}', path="/v1/messages/batches"))
        assert answer.status == 502
    assert asked(provider.received) == 1


@pytest.mark.parametrize("path", ["/v1/batches", "/v1/conversations", "/v1/conversations/c/items"])
@pytest.mark.parametrize("way", ["new", "known", "cold"])
async def test_what_makes_something_is_not_sent_twice_over_an_idle_connection(
    way: str, path: str, stage: Stage, tenant: Tenant
) -> None:
    """It may have closed before it was asked, or while it worked: so it is not asked on such a one at all."""
    made: list[int] = []

    async def provider(line: Line) -> None:
        while head := (await line.read_request())[0]:
            if head.startswith(b"POST"):
                made.append(asked(line.received))
                if len(made) > (way == "known"):
                    await line.reset()
                    return
            await line.answer(ANSWER)

    request = chat(tenant.token, b"{}", path=path)
    stand = stage(provider, cold=way == "cold")
    async with stand as (gateway, _), gateway.client() as client:
        if way == "cold":
            # As others leave one behind.
            pool = gateway.worker.pools.of(gateway.worker.pipeline._upstreams.live[Dialect.OPENAI].origin)
            pool.keep_unused(await pool.dial())
        else:
            before = request if way == "known" else get(tenant.token)
            await client.send(before)
            assert (await client.read_answer()).status == 200
        await client.send(request)
        assert (await client.read_answer()).status == 502
        assert await gateway.settled(1 if way == "cold" else 2)
    # Each was the first that its connection was asked.
    assert made == [1] * (1 + (way == "known"))


async def test_a_body_that_streams_is_sent_once(stage: Stage, tenant: Tenant) -> None:
    async with stage(saying("503 Service Unavailable")) as (gateway, provider), gateway.client() as client:
        head = post(tenant.token, b"", path="/v1/files").replace(b"content-length: 0", b"content-length: 6")
        await client.send(head)
        await poll(lambda: provider.lines)
        await client.send(b"abcdef")
        assert (await client.read_answer()).status == 503
    assert asked(provider.received) == 1


async def test_the_budget_bounds_the_tries_of_all(stage: Stage, tenant: Tenant) -> None:
    async with stage(
        saying("503 Service Unavailable"), breaker_failure_percent=0, retry_budget_percent=0
    ) as (gateway, provider):
        pool = gateway.worker.pools.of(gateway.worker.settings.providers()["anthropic"].origin)
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(40):
                nursery.start_soon(gateway.ask, post(tenant.token))
        # One a second, and those of ten seconds at the start.
        assert 5 <= pool.retried <= 11 + trio.current_time() - began
        assert asked(provider.received) == 40 + pool.retried


@pytest.mark.parametrize("leave", ["while it waits", "while it is asked again"])
async def test_a_client_that_leaves_ends_the_tries(leave: str, stage: Stage, tenant: Tenant) -> None:
    waits = leave == "while it waits"

    async def provider(line: Line) -> None:
        await line.read_request()
        if len(provider_.lines) == 1:
            fields = "connection: close\r\n" + ("retry-after: 60\r\n" if waits else "")
            await line.answer(b"{}", status="503 Service Unavailable", headers=fields)
        await line.wait_closed()

    async with stage(provider, retry_seconds=100) as (gateway, provider_):
        async with gateway.client() as client:
            await client.send(post(tenant.token))
            if waits:
                await provider_.accepted.wait()
                await provider_.lines[0].closed.wait()
            else:
                await poll(lambda: len(provider_.lines) == 2 and provider_.lines[1].received)
            await client.reset()
        row = await gateway.only_row()
        await poll(lambda: gateway.worker.pools.all()[0].open == 0)
    assert row["outcome"] == "client_gone"
    # What the second was sent may have been worked on; the first was refused.
    assert (row["input_tokens"] > 0) is not waits
    assert len(provider_.lines) == (1 if waits else 2)


@pytest.mark.parametrize("handler", [answering(ANSWER), dying, garbled, saying("503 Unavailable")])
async def test_nothing_of_a_request_waits_for_the_collector(
    handler: Handler, stage: Stage, tenant: Tenant
) -> None:
    """It holds a customer's key and prompt."""
    async with stage(handler) as (gateway, _):
        gc.collect()
        gc.disable()
        try:
            for _ in range(3):
                await gateway.ask(post(tenant.token))
            await poll(lambda: not gateway.worker.watchdog.watched)
            assert not [one for one in gc.get_objects() if isinstance(one, Tries)]
        finally:
            gc.enable()


# Breakers.


def unhurried(gateway: RunningGateway) -> None:
    """Let breakers count for as long as a busy machine may take."""
    for provider in gateway.worker.settings.providers().values():
        if provider.origin.host == "127.0.0.1":
            breakers = gateway.worker.pools.of(provider.origin).breakers
            breakers._policy = msgspec.structs.replace(breakers._policy, window_seconds=600.0)


@pytest.mark.parametrize("lane", [False, True], ids=["task", "lane"])
async def test_who_keeps_failing_is_left_alone_and_tried_again(
    lane: bool, stage: Stage, tenant: Tenant
) -> None:
    well = [True]

    async def provider(line: Line) -> None:
        while (await line.read_request())[0]:
            if well[0]:
                await line.answer(ANSWER)
            else:
                await line.answer(b"{}", status="503 Service Unavailable")

    options = {"retries_max": 0, "breaker_open_seconds": 0.5, "metrics_bind": Bind("127.0.0.1", 0)}
    async with stage(provider, **options) as (gateway, provider_), gateway.client() as client:

        async def ask() -> int:
            if lane:
                await client.send(post(tenant.token))
                return (await client.read_answer()).status
            return (await gateway.ask(post(tenant.token))).status

        unhurried(gateway)
        for _ in range(2):
            assert await ask() == 200
        (pool,) = gateway.worker.pools.all()
        well[0] = False
        while pool.breakers.state("anthropic") is not State.OPEN:
            assert await ask() == 503
        before = asked(provider_.received)
        # Five to be suspected, twenty to be sure.
        assert before == 2 + 25
        await client.send(post(tenant.token))
        refused = await client.read_answer()
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        assert json.loads(refused.body)["error"]["type"] == "overloaded_error"
        assert refused.headers["x-should-retry"] == "true"
        assert asked(provider_.received) == before
        well[0] = True
        with trio.fail_after(PATIENCE_SECONDS):
            while await ask() != 200:
                await trio.sleep(0.05)
        assert pool.breakers.state("anthropic") is State.TRUSTED
        assert pool.breakers.opened == 1
        assert await figures(gateway, "breakers_opened_total", "breakers_open") == [1, 0]
        for _ in range(3):
            assert await ask() == 200


@pytest.mark.parametrize("lane", [False, True], ids=["task", "lane"])
@pytest.mark.parametrize("fault", ["no answer", "half an answer", "too slow"])
async def test_what_counts_against_a_provider(fault: str, lane: bool, stage: Stage, tenant: Tenant) -> None:
    clients = 60
    all_here = trio.Event()

    async def provider(line: Line) -> None:
        while (request := await line.read_request())[0]:
            if request[1] == BODY:
                if len(provider_.lines) == clients:
                    all_here.set()
                await all_here.wait()
                await line.answer(ANSWER)
                continue
            if fault == "half an answer":
                await line.send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{")
            if fault != "too slow":
                return
            await line.wait_closed()

    async with stage(provider, retries_max=0, breaker_open_seconds=600) as (gateway, provider_):
        pool = gateway.worker.pools.of(gateway.worker.settings.providers()["anthropic"].origin)

        async def fail() -> None:
            async with gateway.client() as client:
                await client.send(post(tenant.token, b'{"model":"x"}'))
                await client.read_head()

        unhurried(gateway)
        if lane:
            # As many idle connections, on which the lane sends.
            async with trio.open_nursery() as nursery:
                for _ in range(clients):
                    nursery.start_soon(gateway.ask, post(tenant.token))
            await poll(lambda: pool.idle == clients)
        # Only now, so that nobody was too slow for it before.
        hurried = msgspec.structs.replace(gateway.worker.limits, first_byte_seconds=0.05)
        gateway.worker.lane._limits = gateway.worker.pipeline.trier._limits = hurried
        # Of those that are on their way when suspicion arises not all are counted.
        for _ in range(2):
            async with trio.open_nursery() as nursery:
                for _ in range(clients // 2):
                    nursery.start_soon(fail)
        assert pool.breakers.state("anthropic") is State.OPEN
        assert (gateway.worker.lane.requests > 0) is lane
        assert (await gateway.ask(post(tenant.token))).status == 503


async def test_an_open_breaker_makes_a_route_fall_over_at_once(stage: Stage, own_tenant: Tenant) -> None:
    handlers = {"vllm_anthropic": saying("503 Service Unavailable"), "anthropic": answering(ANSWER)}
    async with providers(stage, handlers, of=own_tenant, breaker_open_seconds=600) as (gateway, found):
        await route(gateway, own_tenant, "claude-test", to("vllm_anthropic", "a"), to("anthropic", "b"))
        unhurried(gateway)
        for _ in range(40):
            assert (await gateway.ask(post(own_tenant.token))).body == ANSWER
        assert asked(found["vllm_anthropic"].received) == 25
        answer = await gateway.ask(post(own_tenant.token))
        assert answer.headers["x-karta-route-tried"] == "vllm_anthropic/a;breaker-open"
        assert answer.headers["x-karta-route"] == "anthropic/b;attempts=1"
    assert asked(found["anthropic"].received) == 41


async def test_what_was_prepared_for_one_target_goes_to_no_other(stage: Stage, own_tenant: Tenant) -> None:
    """A first use of a key: the default provider's key is opened, and its connection made, while that is
    verified. By then its breaker is open, however long a busy machine takes for that."""
    handlers = {"anthropic": silent, "vllm_anthropic": answering(ANSWER)}
    options: dict[str, Any] = {"cold": True, "breaker_open_seconds": 600.0}
    async with providers(stage, handlers, of=own_tenant, **options) as (gateway, found):
        await set_byok(gateway.db, own_tenant, OWN_KEY)
        targets = (to("anthropic", "a"), to("vllm_anthropic", "b"))
        await set_route(gateway.db, ACTOR, own_tenant.org_id, "claude-test", targets)
        async with gateway.client() as client:
            async with gateway.authenticator._threads:
                dialled = gateway.step("dialled")
                await client.send(post(own_tenant.token))
                await dialled.wait()
                (pool,) = gateway.worker.pools.all()
                (opened,) = [
                    one for one in gc.get_objects() if isinstance(one, OpenedCredential) and any(one.secret)
                ]
                for _ in range(25):
                    pool.breakers.failed(opened.grant.account)
            answer = await client.read_answer()
        assert answer.body == ANSWER
        assert answer.headers["x-karta-route"] == "vllm_anthropic/b;attempts=1"
        assert not any(opened.secret)
    assert found["anthropic"].received == b""
    assert OWN_KEY.encode() not in found["vllm_anthropic"].received
    assert PLATFORM_KEY.encode() in found["vllm_anthropic"].received


async def test_an_answer_is_passed_on_rather_than_lost_to_an_open_breaker(
    stage: Stage, own_tenant: Tenant
) -> None:
    handlers = {"anthropic": saying("429 Too Many Requests"), "vllm_anthropic": dying}
    async with providers(stage, handlers, of=own_tenant, breaker_open_seconds=600) as (gateway, found):
        await route(gateway, own_tenant, "claude-test", to("anthropic", "a"), to("vllm_anthropic", "b"))
        unhurried(gateway)
        for _ in range(40):
            status = (await gateway.ask(post(own_tenant.token))).status
        assert status == 429
        assert asked(found["vllm_anthropic"].received) == 25


async def test_a_client_s_own_mistakes_open_nothing(stage: Stage, tenant: Tenant) -> None:
    async with stage(saying("500 Internal"), retries_max=0) as (gateway, provider):
        for _ in range(40):
            assert (await gateway.ask(get(tenant.token))).status == 500
        (pool,) = gateway.worker.pools.all()
        assert not pool.breakers.suspects
    assert provider.received.count(b"GET ") == 40

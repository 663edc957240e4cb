"""What is set apart for a request: the most it may say, in all the answers that it asks for, by the dearest
of the models that it names."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
import trio

from gateway.price_table import Tier
from gateway.worst_case import InputEstimate, worst_case
from storage.bridge import Database, open_database
from storage.model import LimitKind
from tests.gateway.conftest import Stage, Tenant
from tests.gateway.limiting import DOLLAR, UNKNOWN_RATE, account_of, limit_tenant, until_agreed
from tests.support.requests import chat, post
from tests.support.scripted_provider import Line, silent


@pytest.fixture
async def admin(own_tenant: Tenant) -> AsyncIterator[Database]:
    """The control plane's view of the tenant's own database."""
    async with open_database(own_tenant.database_url, role="karta_admin") as db:
        yield db


@pytest.mark.parametrize(
    ("told", "tokens"),
    [
        ('"max_tokens":10', 10),
        ('"max_tokens":10.5', 11),
        ('"max_output_tokens":1,"max_completion_tokens":300,"max_tokens":20', 300),
        ('"max_tokens":1,"max_output_tokens":400', 400),
        ('"max_tokens":10,"n":3', 30),
        ('"max_tokens":10,"n":100000', 1280),
        ('"max_tokens":10,"n":4.0', 40),
        ('"max_tokens":10,"n":4.5', 50),
        ('"max_tokens":10,"n":1e300', 1280),
        ('"max_tokens":10,"n":"4"', 1280),
        ('"max_tokens":10,"n":null', 10),
        ('"max_tokens":10,"n":-4', 10),
        # Of a chat nobody heeds it.
        ('"max_tokens":10,"best_of":3,"prompt":["a","b"]', 10),
        ('"max_tokens":-1', 32_000),
        ('"max_tokens":null', 32_000),
        ('"max_tokens":"10"', 32_000),
        ('"max_tokens":1e300', 10**9),
    ],
)
async def test_what_is_set_apart_is_the_most_it_may_say(
    told: str, tokens: int, stage: Stage, own_tenant: Tenant, admin: Database
) -> None:
    limit = await limit_tenant(admin, own_tenant, LimitKind.TOKENS, 10**12)
    body = f'{{"model":"gpt-test",{told},"messages":[]}}'.encode()
    async with stage(silent, of=own_tenant) as (gateway, _), gateway.client() as client:
        await client.send(chat(own_tenant.token, body))
        await until_agreed(gateway, limit, settled=0, reserved=1_000 + len(body) // 2 + tokens)


@pytest.mark.parametrize(
    ("told", "answers"),
    [
        ('"prompt":"a"', 1),
        ('"prompt":["a"]', 1),
        ('"prompt":["a","b","c"]', 3),
        (r'"prompt":[ "[,\"" ,"]"]', 2),
        ('"prompt":[1,2,3]', 1),
        ('"prompt":[[1,2],[3],[4,5,6]]', 3),
        ('"prompt":[]', 1),
        ('"prompt":null', 1),
        (r'"pr\u006fmpt":["a","b"]', 2),
        ('"prompt":["a","b"],"prompt":"a"', 2),
        ('"prompt":["a","b"],"n":3', 6),
        ('"best_of":5', 5),
        ('"best_of":5.0,"n":2', 5),
        ('"best_of":2,"n":5,"prompt":["a","b"]', 10),
        ('"best_of":2,"best_of":1', 2),
        ('"best_of":[]', 128),
        ('"best_of":1000', 128),
        ('"best_of":null', 1),
    ],
)
async def test_a_completion_may_bring_an_answer_for_each_prompt(
    told: str, answers: int, stage: Stage, own_tenant: Tenant, admin: Database
) -> None:
    limit = await limit_tenant(admin, own_tenant, LimitKind.TOKENS, 10**12)
    body = f'{{"model":"gpt-test","max_tokens":10,{told}}}'.encode()
    async with stage(silent, of=own_tenant) as (gateway, _), gateway.client() as client:
        await client.send(chat(own_tenant.token, body, path="/v1/completions"))
        await until_agreed(gateway, limit, settled=0, reserved=1_000 + len(body) // 2 + 10 * answers)


@pytest.mark.parametrize("model", ["whisper-1", "gpt-4o-transcribe", "nobody-knows"])
async def test_for_a_form_its_bytes_are_set_apart_whatever_its_model(
    model: str, stage: Stage, own_tenant: Tenant, admin: Database
) -> None:
    """How long a recording is they do not say, and where the answer tells no figures they are charged."""
    limit = await limit_tenant(admin, own_tenant, LimitKind.MONEY, 10**16, model=model)
    part = b'--b1\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
    form = "multipart/form-data; boundary=b1"
    reserved = 0
    async with (
        stage(silent, of=own_tenant) as (gateway, _),
        gateway.client() as first,
        gateway.client() as second,
    ):
        # The second by a head that is known, and of another length.
        for client, size in ((first, 100), (second, 5000)):
            body = part % (b"model", model.encode()) + part % (b"file", b"x" * size) + b"--b1--"
            await client.send(
                post(own_tenant.token, body, path="/v1/audio/transcriptions", content_type=form)
            )
            reserved += (1_000 + len(body) // 2 + 32_000) * UNKNOWN_RATE
            await until_agreed(gateway, limit, settled=0, reserved=reserved)


async def test_each_of_several_inputs_has_a_window_of_its_own(
    stage: Stage, own_tenant: Tenant, admin: Database
) -> None:
    limit = await limit_tenant(admin, own_tenant, LimitKind.TOKENS, 10**12)
    inputs = ["x" * 10_000] * 4
    body = json.dumps({"model": "text-embedding-3-small", "input": inputs}).encode()
    async with stage(silent, of=own_tenant) as (gateway, _), gateway.client() as client:
        await client.send(chat(own_tenant.token, body, path="/v1/embeddings"))
        # The window is 8,192.
        await until_agreed(gateway, limit, settled=0, reserved=1_000 + len(body) // 2)


# Beside claude-haiku-4-5 (a window of 200,000 tokens): what may run, and how much that may come to.
SEVERAL = {
    "a fallback": ('"fallbacks":[{"model":"claude-opus-5-5"}]', "claude-opus-5-5", 10),
    "a fallback's own length": (
        '"fallbacks":[{"model":"claude-opus-5-5","max_tokens":70}]',
        "claude-opus-5-5",
        70,
    ),
    "one that nobody knows": ('"fallbacks":[{"model":"claude-none"}]', None, 10),
    "more than are looked at": (
        '"fallbacks":[' + ",".join(f'{{"model":"claude-haiku-4-5-{n}"}}' for n in range(9)) + "]",
        None,
        10,
    ),
    "the provider's choice": ('"fallbacks":"default"', "claude-haiku-4-5", 10),
    "no fallbacks": ('"fallbacks":[]', "claude-haiku-4-5", 10),
    "several answers": ('"fallbacks":[],"n":3', "claude-haiku-4-5", 30),
    "unreadable": ('"fallbacks":[7]', "claude-haiku-4-5", 10),
    "an advisor": (
        '"tools":[{"type":"advisor_20260301","name":"advisor","model":"claude-opus-5-5","max_tokens":50}]',
        "claude-opus-5-5",
        32_000,
    ),
}


@pytest.mark.parametrize("case", SEVERAL)
async def test_of_several_models_the_dearest_is_set_apart(
    case: str, stage: Stage, own_tenant: Tenant, admin: Database
) -> None:
    told, dearest, out = SEVERAL[case]
    tokens = await limit_tenant(admin, own_tenant, LimitKind.TOKENS, 10**12)
    money = await limit_tenant(admin, own_tenant, LimitKind.MONEY, 10**16)
    body = f'{{"model":"claude-haiku-4-5","max_tokens":10,{told},"messages":[]}}'.encode()
    async with stage(silent, of=own_tenant) as (gateway, _), gateway.client() as client:
        await client.send(post(own_tenant.token, body))
        prices = gateway.worker.prices
        at = datetime.now(UTC).timestamp()
        worst = [
            worst_case(
                prices.table(None, "anthropic", model, None, Tier.STANDARD, at),
                InputEstimate(0, fills_window=True),
                out,
                unknown_rate=UNKNOWN_RATE,
            )
            for model in ("claude-haiku-4-5", dearest)
        ]
        picodollars, most = (max(one) for one in zip(*worst, strict=True))
        await until_agreed(gateway, tokens, settled=0, reserved=most)
        await until_agreed(gateway, money, settled=0, reserved=picodollars)


@pytest.mark.parametrize(
    "said", [b"", b'data: {"model":"gpt-4o","choices":[{"delta":{"content":"Hel"}}]}\n\n']
)
async def test_who_leaves_a_picture_is_not_charged_for_its_bytes(
    said: bytes, stage: Stage, own_tenant: Tenant, admin: Database
) -> None:
    """Nobody told the figures, so they are estimated: never above what was set apart."""
    limit = await limit_tenant(admin, own_tenant, LimitKind.MONEY, 10 * DOLLAR)
    asked = trio.Event()

    async def provider(line: Line) -> None:
        await line.read_request()
        if said:
            await line.begin_stream()
            await line.send_chunk(said)
        asked.set()
        await line.wait_closed()

    picture = "data:image/png;base64,iVBORw0KGgo" + "A" * 300_000
    part = {"type": "image_url", "image_url": {"url": picture}}
    body = {"model": "gpt-4o", "stream": True, "messages": [{"role": "user", "content": [part]}]}
    async with stage(provider, of=own_tenant) as (gateway, _):
        async with gateway.client() as client:
            await client.send(chat(own_tenant.token, json.dumps(body).encode()))
            await asked.wait()
            if said:
                await client.read_until(said)
            reserved = (await account_of(gateway, limit)).reserved
        row = await gateway.only_row()
    assert (row["outcome"], row["usage_complete"]) == ("client_gone", False)
    assert 10_000 < row["input_tokens"] < 11_500
    assert 0 < row["charged_picodollars"] <= reserved


async def test_who_leaves_is_not_charged_for_more_than_the_model_reads(stage: Stage, tenant: Tenant) -> None:
    """A document's bytes are no text, and nor is what a provider would have refused."""
    asked = trio.Event()

    async def provider(line: Line) -> None:
        await line.read_request()
        asked.set()
        await line.wait_closed()

    body = b'{"model":"gpt-4o","messages":"%s"}' % (b"x" * 1_000_000)
    async with stage(provider) as (gateway, _):
        async with gateway.client() as client:
            await client.send(chat(tenant.token, body))
            await asked.wait()
        row = await gateway.only_row()
    assert row["input_tokens"] == 128_000
    assert row["request_bytes"] == len(body)

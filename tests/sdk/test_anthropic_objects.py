"""Anthropic's batches, files and models, and what would lead an SDK away from the gateway."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest

from tests.sdk.clients import CURRENT, EARLIER, Generation, claude, with_async_claude
from tests.sdk.compare import Side, Sides
from tests.sdk.plain import plain, plain_async

generations = pytest.mark.parametrize("generation", [CURRENT, EARLIER])

SAID: Any = [{"role": "user", "content": "hello"}]
REQUESTS: Any = [
    {"custom_id": f"r-{number}", "params": {"model": "sim:tokens=4", "max_tokens": 9, "messages": SAID}}
    for number in range(30)
]
LARGE = bytes(range(251)) * 20_000


@generations
@pytest.mark.parametrize("resource", ["messages", "beta.messages"])
def test_a_batch_and_its_results_through_the_gateway(
    sides: Sides, generation: Generation, resource: str
) -> None:
    def use(side: Side) -> Any:
        client = claude(side, generation)
        batches = (client.beta.messages if resource.startswith("beta") else client.messages).batches
        made = batches.create(requests=REQUESTS)
        ended = batches.retrieve(made.id)
        assert ended.results_url is not None
        assert ended.results_url.startswith(side.url), "the results would be fetched past the gateway"
        results = plain(batches.results(made.id))
        pages = plain(batches.list(limit=1))
        return [plain(made), plain(ended), results, pages, plain(batches.delete(made.id))]

    seen = sides.same(use, requests=None)
    assert len(seen.result[2]) == 31
    assert [entry["path"] for entry in seen.entries if "results" in entry["path"]] != []


def test_a_batch_by_the_asynchronous_client(sides: Sides) -> None:
    async def use(client: anthropic.AsyncAnthropic) -> Any:
        made = await client.messages.batches.create(requests=REQUESTS)
        ended = await client.messages.batches.cancel(made.id)
        await client.messages.batches.retrieve(made.id)
        results = await plain_async(await client.messages.batches.results(made.id))
        return [plain(made), plain(ended), results]

    sides.same(lambda side: with_async_claude(side, use), requests=None)


@generations
def test_results_of_an_unfinished_batch_are_an_error(sides: Sides, generation: Generation) -> None:
    def use(side: Side) -> Any:
        slow = {"x-sim-behaviour": "polls=5"}
        made = claude(side, generation).messages.batches.create(requests=REQUESTS[:1], extra_headers=slow)
        return claude(side, generation).messages.batches.results(made.id)

    assert sides.same(use, requests=2).result["class"] == "AnthropicError"


@generations
def test_files(sides: Sides, generation: Generation) -> None:
    def use(side: Side) -> Any:
        files = claude(side, generation).files
        made = files.upload(file=("näme.bin", LARGE, "application/octet-stream"))
        with files.with_streaming_response.download(made.id) as response:
            content = b"".join(response.iter_bytes())
        return [
            plain(made),
            content == LARGE,
            plain(files.retrieve_metadata(made.id)),
            plain(files.list(limit=1)),
            plain(files.delete(made.id)),
        ]

    assert sides.same(use, requests=None).result[1] is True


@generations
def test_models(sides: Sides, generation: Generation) -> None:
    def use(side: Side) -> Any:
        models = claude(side, generation).models
        return [
            plain(models.list(limit=2)),
            plain(models.retrieve("claude-haiku-4-5")),
            plain(models.retrieve("a/b")),
        ]

    assert sides.same(use, requests=None).entries[-1]["path"] == "/v1/models/a%2Fb"


@generations
def test_a_redirect_within_the_provider_stays_within_the_gateway(
    sides: Sides, generation: Generation
) -> None:
    behaviour = {"x-sim-behaviour": "redirect=307,times=1,location=/v1/models/elsewhere?a=b"}
    seen = sides.same(
        lambda side: claude(side, generation).models.retrieve("here", extra_headers=behaviour), requests=3
    )
    # The simulator counts by model, and the redirect names another one.
    assert [answer.status for answer in seen.answers] == [307, 307, 200]
    assert seen.entries[1]["path"] == "/v1/models/elsewhere?a=b"


def test_an_absolute_redirect_to_the_provider_stays_within_the_gateway(sides: Sides) -> None:
    target = f"{sides.provider.url}/v1/models/elsewhere"
    behaviour = {"x-sim-behaviour": f"redirect=302,times=1,location={target}"}
    karta = sides.observe(
        sides.karta, lambda side: claude(side).models.retrieve("here", extra_headers=behaviour)
    )
    assert dict(karta.answers[0].headers)["location"] == "/v1/models/elsewhere"
    assert karta.result[2]["id"] == "elsewhere"
    assert {entry["credential"] for entry in karta.entries} == {"sk-ant-byok-0123456789abcdef"}


def test_a_redirect_to_another_host_is_refused(sides: Sides) -> None:
    behaviour = {"x-sim-behaviour": "redirect=302,location=http://127.0.0.1:1/v1/models/x"}
    karta = sides.observe(
        sides.karta, lambda side: claude(side).models.retrieve("here", extra_headers=behaviour)
    )
    assert karta.result["class"] == "InternalServerError"
    assert karta.result["its status_code"] == 502

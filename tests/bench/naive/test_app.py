"""The naive proxy is slow, but it is right: bytes, events and statuses come back, and clients may leave."""

import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import trio

from bench.load.learn import learn_expectation
from bench.load.plan import Question
from bench.naive.app import answerable, forwardable, run_naive
from bench.process import child_process
from tests.bench.scripted_server import Asked, chunk, events, scripted_server, stream_head, unary

DEADLINE_SECONDS = 10.0


@asynccontextmanager
async def naive_to(upstream_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """Run the proxy in this process; gives a client of it."""
    ready, announced = trio.open_memory_channel[str](1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_naive, 0, upstream_url, ready.send_nowait)
        with trio.fail_after(DEADLINE_SECONDS):
            base_url = await announced.receive()
            async with httpx.AsyncClient(base_url=base_url, trust_env=False) as client:
                yield client
        nursery.cancel_scope.cancel()


def test_hop_by_hop_headers_stay_behind() -> None:
    headers = [(b"X-Api-Key", b"k"), (b"Connection", b"close"), (b"Content-Length", b"2"), (b"Host", b"a")]
    assert forwardable(headers) == [(b"X-Api-Key", b"k")]
    assert answerable([*headers, (b"Date", b"now")]) == [(b"x-api-key", b"k"), (b"content-length", b"2")]


async def test_path_query_body_and_status_pass() -> None:
    answer = unary(b'{"error":1}', status="429 Too Many Requests", headers="retry-after: 3\r\n")
    with scripted_server(lambda _: [answer]) as server:
        async with naive_to(server.base_url) as client:
            response = await client.post("/v1/a%2Fb?key[]=1&x=%20", content=b"body")
        assert response.status_code == 429
        assert response.headers["retry-after"] == "3"
        assert response.content == b'{"error":1}'
        assert server.asked[0].head.startswith(b"POST /v1/a%2Fb?key[]=1&x=%20 HTTP/1.1\r\n")
        assert server.asked[0].body == b"body"


async def test_a_stream_passes_while_it_lasts() -> None:
    def script(_: Asked) -> Iterator[bytes | float]:
        yield stream_head()
        for event in events(3):
            yield chunk(event)
            yield 0.01
        yield chunk(b"")

    with scripted_server(script) as server:
        async with naive_to(server.base_url) as client, client.stream("POST", "/v1/messages") as response:
            assert b"".join([part async for part in response.aiter_raw()]) == b"".join(events(3))


async def test_no_upstream_is_a_502() -> None:
    with scripted_server(lambda _: ["close"]) as server:
        async with naive_to(server.base_url) as client:
            assert (await client.get("/")).status_code == 502


async def test_the_program_proxies_the_simulated_provider(provider_url: str, tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "bench.naive", "--port", "0", "--upstream", provider_url, "--json"]
    async with child_process(argv, stderr_path=tmp_path / "stderr") as child:
        base_url = (await child.announcement(DEADLINE_SECONDS))["base_url"]
        question = Question(dialect="openai", behaviour="tokens=5", stream=True)
        through = await learn_expectation(base_url, question, "sk-test")
        assert through == await learn_expectation(provider_url, question, "sk-test")

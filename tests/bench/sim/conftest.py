"""One simulated provider for the whole folder, as a process of its own, and the official SDKs pointed at
it."""

from collections.abc import AsyncIterator, Iterator

import anthropic
import httpx
import openai
import pytest

from tests.bench.sim.process import SimProcess, running_sim


@pytest.fixture(scope="session")
def sim() -> Iterator[SimProcess]:
    """A simulated provider that takes any key; shared, so tests tell their own requests apart by request
    id."""
    with running_sim() as process:
        yield process
        assert httpx.get(f"{process.base_url}/_sim/health").json() == {"ok": True, "failures": 0}


@pytest.fixture
async def http(sim: SimProcess) -> AsyncIterator[httpx.AsyncClient]:
    """A plain client with an OpenAI-style key."""
    headers = {"authorization": "Bearer sk-test"}
    async with httpx.AsyncClient(base_url=sim.base_url, headers=headers, timeout=20, verify=False) as client:
        yield client


@pytest.fixture
async def claude(sim: SimProcess) -> AsyncIterator[anthropic.AsyncAnthropic]:
    """The official Anthropic SDK, without retries of its own."""
    bare = anthropic.DefaultAsyncHttpxClient(verify=False)
    async with anthropic.AsyncAnthropic(
        base_url=sim.base_url, api_key="sk-ant-test", max_retries=0, http_client=bare
    ) as client:
        yield client


@pytest.fixture
async def gpt(sim: SimProcess) -> AsyncIterator[openai.AsyncOpenAI]:
    """The official OpenAI SDK, without retries of its own."""
    bare = openai.DefaultAsyncHttpxClient(verify=False)
    async with openai.AsyncOpenAI(
        base_url=f"{sim.base_url}/v1", api_key="sk-test", max_retries=0, http_client=bare
    ) as client:
        yield client

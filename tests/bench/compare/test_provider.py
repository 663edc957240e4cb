"""The provider of a comparison counts its requests and learns names."""

from pathlib import Path

import pytest

from bench.compare.certificate import write_certificate
from bench.compare.provider import found_provider, running_provider
from bench.load.learn import learn_expectation
from bench.load.plan import Question
from bench.process import StartFailed
from tests.bench.scripted_server import scripted_server, unary


async def test_requests_are_counted_and_names_mean_behaviours(provider_url: str) -> None:
    async with found_provider(provider_url) as provider:
        before = await provider.requests_seen()
        plain = Question(dialect="openai", behaviour="tokens=40")
        named = Question(dialect="openai", model="gpt-of-the-test")
        wanted = await learn_expectation(provider_url, plain, "k")
        assert (await learn_expectation(provider_url, named, "k")).text_crc32 != wanted.text_crc32
        await provider.name_model("gpt-of-the-test", "tokens=40")
        assert (await learn_expectation(provider_url, named, "k")).text_crc32 == wanted.text_crc32
        assert await provider.requests_seen() == before + 6
        with pytest.raises(StartFailed, match="400"):
            await provider.name_model("gpt-of-the-test", "tokens=many")


async def test_it_speaks_tls_with_a_certificate(tmp_path: Path) -> None:
    certificate = write_certificate(tmp_path)
    async with running_provider(tmp_path, [], certificate=certificate) as provider:
        assert provider.url.startswith("https://")
        learnt = await learn_expectation(provider.url, Question(), "k", ca_file=provider.ca_file)
        assert learnt.text_crc32 is not None
        assert await provider.requests_seen() == 2


async def test_what_is_no_provider_is_told() -> None:
    with scripted_server(lambda _: [unary(b"{}", status="404 Not Found")]) as server:
        async with found_provider(server.base_url) as provider:
            with pytest.raises(StartFailed, match="no simulated provider"):
                await provider.requests_seen()
    async with found_provider("http://127.0.0.1:1") as provider:
        with pytest.raises(StartFailed, match="does not answer"):
            await provider.requests_seen()

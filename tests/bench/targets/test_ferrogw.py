"""ferrogw is told where to go; where it is installed, it says what the provider says."""

from pathlib import Path

import pytest

from bench.compare.provider import found_provider
from bench.load.learn import ask_once
from bench.load.plan import Question
from bench.targets.base import TargetContext
from bench.targets.ferrogw import FerrogwTarget


def test_it_is_told_where_to_go(tmp_path: Path) -> None:
    context = TargetContext(upstream_url="http://127.0.0.1:9", directory=tmp_path)
    start = FerrogwTarget().start(context, 5)
    assert start.environment["OPENAI_BASE_URL"] == "http://127.0.0.1:9"
    assert start.environment["RATE_LIMIT_RPS"] == "0"
    assert start.environment["GOMAXPROCS"] == "1"
    assert start.environment["MASTER_KEY"] == start.keys[0]


@pytest.mark.skipif(not FerrogwTarget().installation().ready, reason="karta bench install ferrogw")
async def test_it_says_what_the_provider_says(provider_url: str, tmp_path: Path) -> None:
    target = FerrogwTarget()
    question = Question(dialect="openai", behaviour="tokens=7", model=target.model)
    async with found_provider(provider_url) as provider:
        if target.model is not None:
            await provider.name_model(target.model, question.behaviour)
    async with target.open(TargetContext(upstream_url=provider_url, directory=tmp_path)) as running:
        through = await ask_once(running.base_url, question, running.keys[0], headers=running.headers)
    wanted = await ask_once(provider_url, question, "k")
    assert through.text_crc32 == wanted.text_crc32 is not None

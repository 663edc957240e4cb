"""Whether a gateway that is installed says what the provider says."""

from __future__ import annotations

from pathlib import Path

from bench.compare.provider import found_provider
from bench.load.learn import ask_once
from bench.load.plan import Question
from bench.targets.base import Target, TargetContext


async def assert_it_says_the_same(
    target: Target, question: Question, provider_url: str, directory: Path
) -> None:
    """The text of an answer through the target is that of one without it."""
    async with found_provider(provider_url) as provider:
        if target.model is not None:
            await provider.name_model(target.model, question.behaviour)
    async with target.open(TargetContext(upstream_url=provider_url, directory=directory)) as running:
        through = await ask_once(running.base_url, question, running.keys[0], headers=running.headers)
    wanted = await ask_once(provider_url, question, "k")
    assert through.text_crc32 == wanted.text_crc32 is not None

"""Portkey is told where to go; where it is installed, it says what the provider says."""

from pathlib import Path

import pytest

from bench.load.plan import Question
from bench.targets.base import TargetContext
from bench.targets.portkey import PortkeyTarget
from tests.bench.targets.saying import assert_it_says_the_same


def test_it_is_told_where_to_go(tmp_path: Path) -> None:
    context = TargetContext(upstream_url="http://127.0.0.1:9", directory=tmp_path)
    start = PortkeyTarget().start(context, 5)
    assert start.headers["x-portkey-custom-host"] == "http://127.0.0.1:9/v1"
    assert "--port=5" in start.argv


@pytest.mark.skipif(not PortkeyTarget().installation().ready, reason="karta bench install portkey")
@pytest.mark.parametrize("stream", [False, True])
async def test_it_says_what_the_provider_says(provider_url: str, tmp_path: Path, stream: bool) -> None:
    target = PortkeyTarget()
    question = Question(dialect="openai", stream=stream, behaviour="tokens=7")
    await assert_it_says_the_same(target, question, provider_url, tmp_path)

"""respan-gateway is told where to go; where it is installed, it says what the provider says."""

import tomllib
from pathlib import Path

import pytest

from bench.load.plan import Question
from bench.targets.base import TargetContext
from bench.targets.respan import RespanTarget
from tests.bench.targets.saying import assert_it_says_the_same


def test_it_is_told_where_to_go(tmp_path: Path) -> None:
    context = TargetContext(upstream_url="http://127.0.0.1:9", directory=tmp_path)
    start = RespanTarget().start(context, 5)
    written = tomllib.loads((tmp_path / "gateway.toml").read_text())
    assert written["listen"] == "127.0.0.1:5"
    assert written["providers"]["anthropic"]["base_url"] == "http://127.0.0.1:9"
    assert written["client_keys"] == ["env:BENCH_CLIENT_KEY"]
    assert start.environment["BENCH_CLIENT_KEY"] == start.keys[0]


@pytest.mark.skipif(not RespanTarget().installation().ready, reason="karta bench install respan-gateway")
async def test_it_says_what_the_provider_says(provider_url: str, tmp_path: Path) -> None:
    target = RespanTarget()
    question = Question(dialect="anthropic", behaviour="tokens=7")
    await assert_it_says_the_same(target, question, provider_url, tmp_path)

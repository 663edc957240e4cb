"""ferrogw is told where to go; where it is installed, it says what the provider says."""

from pathlib import Path

import pytest

from bench.load.plan import Question
from bench.targets.base import TargetContext
from bench.targets.ferrogw import FerrogwTarget
from tests.bench.targets.saying import assert_it_says_the_same


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
    await assert_it_says_the_same(target, question, provider_url, tmp_path)

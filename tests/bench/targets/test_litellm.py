"""LiteLLM is told where to go; where it is installed, it says what the provider says."""

from pathlib import Path

import pytest
import yaml

from bench.load.plan import Question
from bench.targets.base import TargetContext
from bench.targets.litellm import LiteLLMTarget
from tests.bench.targets.saying import assert_it_says_the_same


def test_it_is_told_where_to_go(tmp_path: Path) -> None:
    context = TargetContext(upstream_url="http://127.0.0.1:9", directory=tmp_path)
    start = LiteLLMTarget().start(context, 5)
    written = yaml.safe_load((tmp_path / "config.yaml").read_text())
    [model] = written["model_list"]
    assert model["litellm_params"]["api_base"] == "http://127.0.0.1:9/v1"
    assert written["general_settings"]["master_key"] == "os.environ/BENCH_MASTER_KEY"
    assert start.environment["BENCH_MASTER_KEY"] == start.keys[0]


@pytest.mark.skipif(not LiteLLMTarget().installation().ready, reason="karta bench install litellm")
async def test_it_says_what_the_provider_says(provider_url: str, tmp_path: Path) -> None:
    target = LiteLLMTarget()
    question = Question(dialect="openai", behaviour="tokens=7", model=target.model)
    await assert_it_says_the_same(target, question, provider_url, tmp_path)

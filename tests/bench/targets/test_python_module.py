"""Our own proxies start as modules, answer as the provider does, and fail with their reason."""

from pathlib import Path

import pytest

from bench.load.learn import learn_expectation
from bench.load.plan import Question
from bench.process_watch import command_line
from bench.targets.base import TargetContext, TargetUnavailable
from bench.targets.python_module import PythonModuleTarget
from bench.targets.registry import TARGETS


@pytest.mark.parametrize("name", ["relay", "naive"])
async def test_ours_answer_as_the_provider_does(name: str, provider_url: str, tmp_path: Path) -> None:
    question = Question(behaviour="tokens=3", stream=True)
    async with TARGETS[name].open(TargetContext(upstream_url=provider_url, directory=tmp_path)) as running:
        [pid] = running.pids
        assert f"bench.{name}" in command_line(pid)
        through = await learn_expectation(running.base_url, question, running.keys[0])
    assert through == await learn_expectation(provider_url, question, "sk-test")
    assert command_line(pid) == []


async def test_one_that_does_not_start_takes_no_part(tmp_path: Path) -> None:
    target = PythonModuleTarget("gone", "bench.no_such_module", "")
    with pytest.raises(TargetUnavailable, match="no_such_module"):
        async with target.open(TargetContext(upstream_url="http://127.0.0.1:1", directory=tmp_path)):
            raise AssertionError("it started")

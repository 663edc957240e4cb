"""The direct arm is the provider itself."""

from pathlib import Path

from bench.targets.base import TargetContext
from bench.targets.direct import DirectTarget


async def test_it_gives_the_upstream_and_watches_nothing(tmp_path: Path) -> None:
    context = TargetContext(upstream_url="http://127.0.0.1:1", directory=tmp_path)
    async with DirectTarget().open(context) as running:
        assert running.base_url == "http://127.0.0.1:1"
        assert running.pids == []

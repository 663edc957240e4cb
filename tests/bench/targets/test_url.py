"""A URL is an arm as it stands; one that could give a secret away is refused."""

from pathlib import Path

import pytest

from bench.targets.base import TargetContext
from bench.targets.url import URLTarget


async def test_it_is_asked_as_it_is(tmp_path: Path) -> None:
    target = URLTarget("mine", "https://h/path", keys=["a", "b"], pids=[7])
    assert target.installation().ready
    async with target.open(TargetContext(upstream_url="http://h", directory=tmp_path)) as running:
        assert (running.base_url, list(running.keys), list(running.pids)) == (
            "https://h/path",
            ["a", "b"],
            [7],
        )


@pytest.mark.parametrize("url", ["h:1", "ftp://h", "http://user:secret@h", "http://h/?key=secret"])
def test_urls_that_are_none_or_hold_secrets_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="without password or query: mine"):
        URLTarget("mine", url, keys=["k"])

"""No target at all: the simulated provider asked directly, which is the harness's own ceiling."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bench.targets.base import PLACEHOLDER_KEY, RunningTarget, TargetContext


class DirectTarget:
    """The provider itself; no process is watched, since none stands in between."""

    name = "direct"
    description = "the simulated provider, asked directly: the harness's own ceiling"
    governed = False
    optional = False

    @asynccontextmanager
    async def open(self, context: TargetContext) -> AsyncIterator[RunningTarget]:
        yield RunningTarget(base_url=context.upstream_url, keys=[PLACEHOLDER_KEY], pids=[])

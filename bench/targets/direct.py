"""No target at all: the simulated provider asked directly, which is the harness's own ceiling."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bench.targets.base import PLACEHOLDER_KEY, Installation, RunningTarget, Target, TargetContext


class DirectTarget(Target):
    """The provider itself; no process is watched, since none stands in between."""

    name = "direct"
    description = "the simulated provider, asked directly: the harness's own ceiling"

    def installation(self) -> Installation:
        return Installation(ready=True)

    @asynccontextmanager
    async def open(self, context: TargetContext) -> AsyncIterator[RunningTarget]:
        yield RunningTarget(
            base_url=context.upstream_url, keys=[PLACEHOLDER_KEY], pids=[], ca_file=context.ca_file
        )

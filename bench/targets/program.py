"""Targets that are installed by `karta bench install`: find the program, start it, wait until it serves."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import msgspec

from bench.process import child_process
from bench.process_watch import descendants
from bench.targets.base import (
    Installation,
    RunningTarget,
    Target,
    TargetContext,
    TargetUnavailable,
    require,
    start_seconds_max,
)
from bench.targets.listening import accepting, free_port
from bench.targets.packages import Package


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """How a program is started; what is secret travels in `environment`, never in `argv`."""

    argv: Sequence[str]
    environment: Mapping[str, str]
    keys: Sequence[str]
    headers: Mapping[str, str] = {}


class ProgramTarget(Target):
    """A gateway of another project, in a process of its own on the target's core."""

    optional = True
    check = "text"
    package: Package
    start_seconds_max = start_seconds_max

    def installation(self) -> Installation:
        return self.package.installation()

    def start(self, context: TargetContext, port: int) -> Start:
        """Return how to start it on 127.0.0.1:`port`; may write its configuration into the directory."""
        raise NotImplementedError

    @asynccontextmanager
    async def open(self, context: TargetContext) -> AsyncIterator[RunningTarget]:
        found = self.installation()
        if not found.ready:
            raise TargetUnavailable(f"{self.name} is not installed: {found.mend}")
        require(context, name=self.name)
        port = free_port()
        start = self.start(context, port)
        async with child_process(
            start.argv,
            stderr_path=context.directory / f"{self.name}.stderr",
            cpus=context.target_cpus,
            environment=start.environment,
        ) as child:
            await accepting(child, port, name=self.name, seconds_max=self.start_seconds_max)
            yield RunningTarget(
                base_url=f"http://127.0.0.1:{port}",
                keys=start.keys,
                pids=[child.pid, *descendants(child.pid)],
                headers=start.headers,
                command=start.argv,
            )

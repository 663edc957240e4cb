"""Targets of our own that are started as `python -m MODULE --port 0 --upstream URL --json`."""

import platform
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bench.process import StartFailed, child_process
from bench.targets.base import (
    PLACEHOLDER_KEY,
    Installation,
    RunningTarget,
    Target,
    TargetContext,
    TargetUnavailable,
    require,
    start_seconds_max,
)


class PythonModuleTarget(Target):
    """A proxy in this repository, run by the interpreter that runs the harness."""

    def __init__(self, name: str, module: str, description: str) -> None:
        self.name = name
        self.description = description
        self._module = module

    def installation(self) -> Installation:
        return Installation(ready=True, version=f"Python {platform.python_version()}")

    @asynccontextmanager
    async def open(self, context: TargetContext) -> AsyncIterator[RunningTarget]:
        require(context, name=self.name, tls=False)
        argv = [sys.executable, "-m", self._module, "--upstream", context.upstream_url, "--json"]
        stderr_path = context.directory / f"{self.name}.stderr"
        async with child_process(argv, stderr_path=stderr_path, cpus=context.target_cpus) as child:
            try:
                announced = await child.announcement(start_seconds_max)
            except StartFailed as error:
                raise TargetUnavailable(f"python -m {self._module}: {error}") from error
            yield RunningTarget(
                base_url=announced["base_url"], keys=[PLACEHOLDER_KEY], pids=[child.pid], command=argv
            )

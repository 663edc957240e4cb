"""Karta itself, governed: `karta up` with a real Postgres, a minted key, and a provider key sealed for the
org.

Everything but the gateway (database, admin, simulated provider of its own) stays on the harness's cores;
the gateway's processes are found below `karta up` by their command line, pinned to the target's core, and
are what is watched.
"""

import shutil
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from bench.process import Child, StartFailed, child_process
from bench.process_watch import command_line, descendants, pin
from bench.targets import quick_bcrypt
from bench.targets.base import Installation, RunningTarget, Target, TargetContext, TargetUnavailable
from bench.targets.karta_tenants import FAILOVER_MODEL, FAILOVER_PROVIDER, Commands

# The first start of a data directory creates a database cluster.
first_start_seconds_max = 120.0
_PROVIDERS = ("anthropic", "openai")
_QUICK_NOTE = (
    "its keys' digests are bcrypt's of the least cost (4 instead of 12), as so many would take an hour to "
    "make and to use once; after its first use no key costs a digest"
)


def find_program() -> str | None:
    """Return the `karta` of the running environment, else the first on the PATH, else None."""
    beside = Path(sys.executable).with_name("karta")
    return str(beside) if beside.exists() else shutil.which("karta")


def gateway_pids(root: int) -> list[int]:
    """Return the gateway processes below `root`: those whose command line says `gateway`, and their
    children.
    """
    found: list[int] = []
    for pid in descendants(root):
        if "gateway" in command_line(pid) and pid not in found:
            found += [pid, *(below for below in descendants(pid) if below not in found)]
    return list(dict.fromkeys(found))


def provider_environment(context: TargetContext) -> dict[str, str]:
    """Return the settings that make Karta forward to the context's upstream, and to its dead one."""
    environment = {}
    for provider in _PROVIDERS:
        environment[f"KARTA_PROVIDER_{provider.upper()}_BASE_URL"] = context.upstream_url
        if context.ca_file is not None:
            environment[f"KARTA_PROVIDER_{provider.upper()}_CA_FILE"] = context.ca_file
    if context.dead_url is not None:
        environment[f"KARTA_PROVIDER_{FAILOVER_PROVIDER.upper()}_BASE_URL"] = context.dead_url
    return environment


class KartaTarget(Target):
    """The gateway of this repository with all its governance."""

    name = "karta"
    description = (
        "Karta, governed: Postgres, verified key, limits, budget, sealed provider key, usage recorded"
    )
    governed = True
    fallback_model = FAILOVER_MODEL

    def installation(self) -> Installation:
        if find_program() is None:
            return Installation(ready=False, mend="pip install karta")
        return Installation(ready=True, version=metadata.version("karta"))

    @asynccontextmanager
    async def open(self, context: TargetContext) -> AsyncIterator[RunningTarget]:
        program = find_program()
        if program is None:
            raise TargetUnavailable("the karta command is not installed here (pip install karta)")
        environment = provider_environment(context)
        if context.quick_digests:
            environment |= quick_bcrypt.for_python(context.directory / "quick")
        data_dir = context.directory / "data"
        argv = [
            *(program, "up", "--json", "--data-dir", str(data_dir)),
            *("--gateway-port", "0", "--admin-port", "0", "--workers", str(context.workers)),
        ]
        async with child_process(
            argv,
            stderr_path=context.directory / "karta.stderr",
            cpus=context.harness_cpus,
            environment=environment,
        ) as child:
            try:
                announced = await child.announcement(first_start_seconds_max)
            except StartFailed as error:
                raise TargetUnavailable(f"karta up: {error}") from error
            keys = await self._govern(Commands(program, data_dir, environment), announced, context)
            yield RunningTarget(
                base_url=announced["gateway_url"],
                keys=keys,
                pids=self._pinned(child, context),
                command=argv,
                notes={"keys": _QUICK_NOTE} if context.quick_digests else {},
            )

    async def _govern(
        self, commands: Commands, announced: Mapping[str, Any], context: TargetContext
    ) -> list[str]:
        missing = [field for field in ("gateway_url", "api_key", "org_id") if not announced.get(field)]
        if missing:
            raise TargetUnavailable(f"karta up announced no {', '.join(missing)}")
        org_id = str(announced["org_id"])
        await commands.govern(org_id)
        if context.dead_url is not None:
            await commands.route_failover(org_id, context.fallback_behaviour)
        return await commands.keys_of_tenants(
            org_id, str(announced["api_key"]), keys=context.keys, tenants=context.tenants
        )

    @staticmethod
    def _pinned(child: Child, context: TargetContext) -> list[int]:
        pids = gateway_pids(child.pid)
        if not pids:
            raise TargetUnavailable("no process below `karta up` has `gateway` in its command line")
        if context.target_cpus:
            for pid in pids:
                pin(pid, context.target_cpus)
        return pids

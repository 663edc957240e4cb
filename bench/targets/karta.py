"""Karta itself, governed: `karta up` with a real Postgres, a minted key, and a provider key sealed for the
org.

Everything but the gateway (database, admin, simulated provider of its own) stays on the harness's cores;
the gateway's processes are found below `karta up` by their command line, pinned to the target's core, and
are what is watched.  Keys travel by stdin and pipes, never by argument.
"""

import os
import shutil
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from bench.process import Child, StartFailed, child_process
from bench.process_watch import command_line, descendants, pin
from bench.targets.base import RunningTarget, TargetContext, TargetUnavailable

# The first start of a data directory creates a database cluster.
first_start_seconds_max = 120.0
command_seconds_max = 60.0
_LOOK_SECONDS = 0.05
_PROVIDERS = ("anthropic", "openai")
_GOVERNANCE = (
    ("budget", "set", "--usd", "900000", "--period", "month"),
    (
        *("limits", "set", "--requests-per-minute", "100000000"),
        *("--tokens-per-minute", "1000000000000", "--concurrent", "100000"),
    ),
)
_PROVIDER_KEY = b"sk-bench-provider-key-of-the-organization"


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


async def _run_command(program: str, *arguments: str, stdin: bytes, environment: Mapping[str, str]) -> None:
    """Run one `karta` command to its end; TargetUnavailable with its stderr if it fails."""
    with trio.move_on_after(command_seconds_max):
        done = await trio.run_process(
            [program, *arguments],
            stdin=stdin,
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            env={**os.environ, **environment},
        )
        if done.returncode == 0:
            return
        said = done.stderr.decode(errors="replace").strip()[-400:]
        raise TargetUnavailable(f"karta {' '.join(arguments[:2])} failed: {said}")
    raise TargetUnavailable(f"karta {' '.join(arguments[:2])} took more than {command_seconds_max:g} s")


class KartaTarget:
    """The gateway of this repository with all its governance."""

    name = "karta"
    description = (
        "Karta, governed: Postgres, verified key, limits, budget, sealed provider key, usage recorded"
    )
    governed = True
    optional = False

    @asynccontextmanager
    async def open(self, context: TargetContext) -> AsyncIterator[RunningTarget]:
        program = find_program()
        if program is None:
            raise TargetUnavailable("the karta command is not installed here (pip install karta)")
        environment = {
            f"KARTA_PROVIDER_{provider.upper()}_BASE_URL": context.upstream_url for provider in _PROVIDERS
        }
        data_dir = context.directory / "data"
        argv = [
            program,
            "up",
            "--json",
            "--data-dir",
            str(data_dir),
            "--gateway-port",
            "0",
            "--admin-port",
            "0",
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
            yield await self._govern(program, child, announced, data_dir, environment, context)

    async def _govern(
        self,
        program: str,
        child: Child,
        announced: Mapping[str, Any],
        data_dir: Path,
        environment: Mapping[str, str],
        context: TargetContext,
    ) -> RunningTarget:
        """Seal a provider key for the org, set limits and a budget no run reaches, and pin the gateway."""
        missing = [field for field in ("gateway_url", "api_key", "org_id") if not announced.get(field)]
        if missing:
            raise TargetUnavailable(f"karta up announced no {', '.join(missing)}")
        for provider in _PROVIDERS:
            await _run_command(
                program,
                *("byok", "set", "--org", str(announced["org_id"]), "--provider", provider),
                *("--data-dir", str(data_dir), "--json"),
                stdin=_PROVIDER_KEY,
                environment=environment,
            )
        for arguments in _GOVERNANCE:
            await _run_command(
                program,
                *arguments,
                *("--org", str(announced["org_id"]), "--data-dir", str(data_dir), "--json"),
                stdin=b"",
                environment=environment,
            )
        pids = gateway_pids(child.pid)
        if not pids:
            raise TargetUnavailable("no process below `karta up` has `gateway` in its command line")
        if context.target_cpus:
            for pid in pids:
                pin(pid, context.target_cpus)
        return RunningTarget(base_url=announced["gateway_url"], keys=[announced["api_key"]], pids=pids)

"""A `karta admin` as a process of its own (or several of them), for tests of what crosses processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

READY_SECONDS_MAX = 90


@asynccontextmanager
async def admin_process(
    database_url: str, folder: Path, *, processes: int = 1, **variables: str
) -> AsyncIterator[str]:
    """Yields the URL to open; `variables` are more of its environment. What it logs is in `folder`."""
    environment = {
        "PATH": os.environ["PATH"],
        "KARTA_DATABASE_URL": database_url,
        "KARTA_ADMIN_BIND": "127.0.0.1:0",
        "KARTA_SPOOL_DIR": str(folder / "spool"),
        **variables,
    }
    with _start(environment, folder, processes) as process:
        assert process.stdout is not None
        try:
            with trio.fail_after(READY_SECONDS_MAX):
                line = await trio.to_thread.run_sync(process.stdout.readline, abandon_on_cancel=True)
            assert line, (folder / "admin.log").read_text()
            yield json.loads(line)["admin_url"]
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


def _start(environment: dict[str, str], folder: Path, processes: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-m", "karta", "admin", "--json", "--stop-with-stdin"]
    with (folder / "admin.log").open("ab") as log:
        return subprocess.Popen(
            [*command, "--processes", str(processes)],
            env=environment,
            cwd=folder,
            # Closed with this process, which ends that one.
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        )

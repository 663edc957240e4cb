"""A gateway in a process of its own, or in several: to be killed, and to have its memory looked at."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from tests.support.gateway import PATIENCE_SECONDS, PLATFORM_KEY, POLL_SECONDS

_PROGRAM = """
from gateway.settings import GatewaySettings
from gateway.worker import main
main(GatewaySettings.load(), on_ready=lambda url: print(url, flush=True))
"""
_PR_SET_PDEATHSIG = 1
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class GatewayProcess:
    """`port` is where it serves; `pid` who it is."""

    def __init__(self, process: subprocess.Popen[bytes], stdout: trio.lowlevel.FdStream) -> None:
        self._process = process
        self._stdout = stdout
        self.pid = process.pid
        self.port = 0

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    async def wait_ready(self) -> None:
        with trio.fail_after(PATIENCE_SECONDS):
            line = b""
            while not line.endswith(b"\n"):
                more = await self._stdout.receive_some()
                assert more, "the gateway ended before it was ready"
                line += more
        self.port = int(line.rpartition(b":")[2].strip(b'"}\n'))

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.port)

    def workers(self) -> set[int]:
        """The ids of its worker processes, where it is their supervisor."""
        return children_of(self.pid)

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def kill(self) -> None:
        """As the kernel does it when memory runs out."""
        self._process.kill()
        await self._wait()

    async def stop(self) -> int:
        """As an operator does it; the exit status."""
        self._process.send_signal(signal.SIGTERM)
        with trio.fail_after(PATIENCE_SECONDS):
            return await self._wait()

    async def _wait(self) -> int:
        while (status := self._process.poll()) is None:
            await trio.sleep(POLL_SECONDS)
        return status

    def resident_bytes(self) -> int:
        """Memory in use, as the kernel counts it."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * _PAGE_BYTES

    def limit(self, name: str) -> str:
        """A soft resource limit, by the kernel's name for it."""
        lines = Path(f"/proc/{self.pid}/limits").read_text().splitlines()
        (line,) = [line for line in lines if line.startswith(name)]
        return line.removeprefix(name).split()[0]

    def count_in_memory(self, needle: bytes) -> int:
        """How often `needle` stands anywhere in its writable memory."""
        found = 0
        with Path(f"/proc/{self.pid}/mem").open("rb", buffering=0) as memory:
            for line in Path(f"/proc/{self.pid}/maps").read_text().splitlines():
                bounds, modes, *_ = line.split()
                start, end = (int(one, 16) for one in bounds.split("-"))
                if modes.startswith("rw"):
                    memory.seek(start)
                    found += memory.read(end - start).count(needle)
        return found


@asynccontextmanager
async def gateway_process(
    database_url: str,
    spool_dir: Path,
    *,
    provider_url: str,
    master_keys: str = "",
    workers: int = 1,
    **variables: str,
) -> AsyncIterator[GatewayProcess]:
    """A gateway whose providers are all at `provider_url`; `variables` are more of its environment."""
    environment = gateway_environment(
        database_url, spool_dir, provider_url=provider_url, master_keys=master_keys, **variables
    )
    command = ["-c", _PROGRAM]
    if workers > 1:
        command = ["-P", "-m", "karta", "gateway", "--workers", str(workers), "--json"]
    with _start(command, environment) as process:
        assert process.stdout is not None
        async with trio.lowlevel.FdStream(os.dup(process.stdout.fileno())) as stdout:
            gateway = GatewayProcess(process, stdout)
            try:
                await gateway.wait_ready()
                yield gateway
            finally:
                with trio.CancelScope(shield=True):
                    if not gateway.ended:
                        await gateway.kill()


def gateway_environment(
    database_url: str, spool_dir: Path, *, provider_url: str, master_keys: str = "", **variables: str
) -> dict[str, str]:
    """All that a gateway's process is told."""
    environment = {
        "PATH": os.environ["PATH"],
        "KARTA_DATABASE_URL": database_url,
        "KARTA_GATEWAY_BIND": "127.0.0.1:0",
        "KARTA_SPOOL_DIR": str(spool_dir),
        "KARTA_MASTER_KEYS": master_keys,
        **variables,
    }
    for name in ("ANTHROPIC", "OPENAI"):
        environment[f"KARTA_PROVIDER_{name}_BASE_URL"] = provider_url
        environment[f"KARTA_PROVIDER_{name}_API_KEY"] = PLATFORM_KEY
    return environment


def children_of(pid: int) -> set[int]:
    """The ids of a process's children that live."""
    numbers = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return {number for number in numbers if _parent(number) == pid}


def lives(pid: int) -> bool:
    """Not one that has ended and that nobody has asked about, either."""
    return _parent(pid) is not None


def _parent(pid: int) -> int | None:
    try:
        state, parent, *_ = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state == "Z" else int(parent)


def _start(command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    # By this thread, which stays: Trio would take another, and the kernel takes the end of the thread that
    # started a child for the death of its parent.
    return subprocess.Popen(
        [sys.executable, *command],
        env=environment,
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        preexec_fn=_die_with_parent,
    )


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

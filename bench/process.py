"""Start the processes of a comparison: pinned to their cores, announced by one JSON line, gone when we are
gone.

The child is started through a line of Python that pins itself, asks the kernel to be killed when its parent
dies, and then becomes the program: so every process the program starts is pinned too, and nothing is left
behind if the harness is killed.  (A program that must end what it started itself is asked to end instead.)
`Popen` is called in this thread, not in one of trio's, because the kernel
takes the death of the *thread* that started a child for the death of its parent.

Bounds: an announcement is one line of at most `line_bytes_max`; its stderr goes to a file, of which the end
is quoted when the start fails.
"""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import trio

# A result line carries histograms; 5,149 slots in four histograms stay far below this.
line_bytes_max = 4 * 1024 * 1024
# A database has to write its last checkpoint.
stop_seconds_max = 20.0
_STDERR_QUOTE_BYTES = 600
_BECOME = (
    "import ctypes, os, sys\n"
    "cpus = [int(cpu) for cpu in sys.argv[1].split(',') if cpu]\n"
    "cpus and os.sched_setaffinity(0, cpus)\n"
    "ctypes.CDLL(None).prctl(1, int(sys.argv[2]))\n"
    "os.execvp(sys.argv[3], sys.argv[3:])\n"
)


class StartFailed(Exception):
    """A program could not be started; the message says which, how, and what it wrote to stderr."""


class LineReader:
    """Reads newline-terminated JSON documents from a pipe."""

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream
        self._buffer = bytearray()

    async def line(self) -> bytes:
        """Return the next line without its end; empty at the end of the stream."""
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > line_bytes_max:
                raise ValueError(f"a line of more than {line_bytes_max} bytes came from a child process")
            data = await self._stream.receive_some(65_536)
            if not data:
                return b""
            self._buffer += data
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line


class Child:
    """A running child: its process id, its stdin, and the lines of its stdout."""

    def __init__(self, popen: "subprocess.Popen[bytes]", stderr_path: Path) -> None:
        if popen.stdin is None or popen.stdout is None:
            raise ValueError("a child needs pipes for stdin and stdout")
        self._popen = popen
        self._stderr_path = stderr_path
        self.pid = popen.pid
        # Descriptors are duplicated, because both trio and Popen want to close theirs.
        self.stdin = trio.lowlevel.FdStream(os.dup(popen.stdin.fileno()))
        self._stdout = trio.lowlevel.FdStream(os.dup(popen.stdout.fileno()))
        popen.stdin.close()
        popen.stdout.close()
        self.lines = LineReader(self._stdout)

    @property
    def returncode(self) -> int | None:
        return self._popen.poll()

    def stderr_end(self) -> str:
        """Return the last words of the child on stderr."""
        try:
            return self._stderr_path.read_bytes()[-_STDERR_QUOTE_BYTES:].decode(errors="replace").strip()
        except FileNotFoundError:
            return ""

    async def announcement(self, seconds_max: float) -> dict[str, Any]:
        """Return the first line of stdout, a JSON object; StartFailed if none comes in time."""
        line = b""
        with trio.move_on_after(seconds_max) as scope:
            line = await self.lines.line()
        try:
            announced = msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.DecodeError:
            said = self.stderr_end() or line[:_STDERR_QUOTE_BYTES].decode(errors="replace") or "nothing"
            late = scope.cancelled_caught
            what = f"it was not ready within {seconds_max:g} s" if late else "it did not start"
            raise StartFailed(f"{what}; it said: {said}") from None
        return announced

    async def stop(self) -> None:
        """End the process and wait for it: its stdin closes, SIGTERM, and SIGKILL if it takes too long."""
        with trio.CancelScope(shield=True):
            await self.stdin.aclose()
            # Closing stdin is a request to end; SIGTERM says it to programs that do not read it.
            if self._popen.poll() is None:
                self._popen.terminate()
            with trio.move_on_after(stop_seconds_max) as scope:
                await self._ended()
            if scope.cancelled_caught:
                self._popen.kill()
                await self._ended()
            await self._stdout.aclose()

    async def _ended(self) -> None:
        """Wait until the process itself has ended; what it started may still hold its pipes."""
        if self._popen.poll() is None:
            descriptor = os.pidfd_open(self.pid)
            try:
                await trio.lowlevel.wait_readable(descriptor)
            finally:
                os.close(descriptor)
            self._popen.wait()


def child_environment(added: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return ours without Karta's settings, and with what is added.

    An operator's shell may name the database, Stripe's key and the providers of their own production: nothing
    that is only measured may find them, neither there nor in the `karta.toml` of the folder it starts in.
    """
    ours = {name: value for name, value in os.environ.items() if not name.startswith("KARTA_")}
    return {**ours, "KARTA_CONFIG": os.devnull, **(added or {})}


@asynccontextmanager
async def child_process(
    argv: Sequence[str],
    *,
    stderr_path: Path,
    cpus: Sequence[int] = (),
    environment: Mapping[str, str] | None = None,
    orphan_signal: signal.Signals = signal.SIGKILL,
) -> AsyncIterator[Child]:
    """Run `argv` on the given cores (empty: any) for as long as the body runs.

    `environment` is added to `child_environment`.  `orphan_signal` is what it gets when the harness dies.
    Raises StartFailed if the program does not exist.
    """
    become = [sys.executable, "-c", _BECOME, ",".join(map(str, cpus)), str(int(orphan_signal)), *argv]
    with stderr_path.open("ab") as stderr:
        try:
            popen = subprocess.Popen(  # noqa: ASYNC220, S603 (see above; argv is ours)
                become,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=child_environment(environment),
                # Ctrl-C is for the harness, which then ends its children in order.
                process_group=0,
            )
        except OSError as error:
            raise StartFailed(f"{argv[0]} cannot be started: {error}") from error
    child = Child(popen, stderr_path)
    try:
        yield child
    finally:
        await child.stop()

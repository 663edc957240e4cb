"""A real `karta up` as a process of its own, and what one may want to know of it."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

READY_SECONDS_MAX = 90
STOP_SECONDS_MAX = 60
ORPHANS_SECONDS_MAX = 30


class Up:
    """Stopped at the end of its context; `told` is its JSON line once it is ready."""

    def __init__(
        self,
        data_dir: Path,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        user: int | None = None,
        ports: tuple[int, int] = (0, 0),
        python: Sequence[str] = (sys.executable,),
    ) -> None:
        self.data_dir = data_dir
        self.told: dict[str, Any] = {}
        self.errors = ""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("KARTA_")}
        gateway_port, admin_port = ports
        self.process = subprocess.Popen(
            [
                *(*python, "-P", "-m", "karta", "up", "--json", "--data-dir", str(data_dir)),
                *("--gateway-port", str(gateway_port), "--admin-port", str(admin_port), *arguments),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**inherited, **(environment or {})},
            cwd=data_dir.parent,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
        )
        self._reader = threading.Thread(target=self._read_errors, daemon=True)
        self._reader.start()

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.errors += line

    def wait_ready(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        # A hang ends by killing what is awaited: reading has no time limit of its own.
        guard = threading.Timer(READY_SECONDS_MAX, self.process.kill)
        guard.start()
        line = self.process.stdout.readline()
        guard.cancel()
        assert line, f"karta up was not ready: {self.wait()}\n{self.errors}"
        self.told = json.loads(line)
        return self.told

    def wait(self) -> int:
        """The exit code of a process that ends by itself."""
        code = self.process.wait(STOP_SECONDS_MAX)
        self._reader.join(STOP_SECONDS_MAX)
        return code

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.wait()
        assert self.process.stdout is not None
        rest = self.process.stdout.read()
        assert rest == "", f"more than one line on stdout: {rest}"
        return code

    def __enter__(self) -> Up:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.wait()
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        finally:
            for stream in (self.process.stdout, self.process.stderr):
                if stream is not None:
                    stream.close()


def has_orphans(data_dir: Path) -> bool:
    """Whether any child of a `karta up` on `data_dir` lives: each holds a lock for as long as it does."""
    with (data_dir / "children.lock").open("r") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def wait_until(condition: Callable[[], bool], seconds_max: float = ORPHANS_SECONDS_MAX) -> None:
    deadline = time.monotonic() + seconds_max
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds_max} s"
        threading.Event().wait(0.05)


def children_of(pid: int) -> dict[str, int]:
    """The direct children of a process: what each runs (`gateway`, `admin`, `sim`, `keeper`) and its id."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            status = (entry / "stat").read_text().rpartition(")")[2].split()
            command = (entry / "cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        if int(status[1]) == pid:
            names = [name for name in ("gateway", "admin", "sim") if name in command]
            found[names[0] if names else "keeper"] = int(entry.name)
    return found


def request_stream(told: dict[str, Any], key: str) -> bytes:
    """One streamed request through the gateway; the whole answer."""
    body = {"model": "claude-sonnet-5-5", "max_tokens": 16, "stream": True, "messages": []}
    body["messages"] = [{"role": "user", "content": "Hello"}]
    request = urllib.request.Request(
        f"{told['gateway_url']}/v1/messages",
        json.dumps(body).encode(),
        {"x-api-key": key, "anthropic-version": "2023-06-01", "content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        answer: bytes = response.read()
        return answer

"""The simulated provider as a child process, and what tests ask of it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import httpx
import trio

DEADLINE_SECONDS = 15.0
RESET = b"!RST"


class SimProcess:
    """A running simulated provider."""

    def __init__(self, base_url: str, child: subprocess.Popen[str]) -> None:
        self.base_url = base_url
        self.child = child
        self.port = int(base_url.rsplit(":", 1)[1])

    async def look(self, path: str) -> dict[str, Any]:
        """A document under `/_sim/`."""
        # Nothing to verify on plain loopback, and reading the system's certificates takes 20 ms each time.
        async with httpx.AsyncClient(base_url=self.base_url, verify=False) as client:
            document: dict[str, Any] = (await client.get(path)).json()
            return document

    async def entry(
        self, request_id: str, until: Callable[[dict[str, Any]], bool] = lambda _: True
    ) -> dict[str, Any]:
        """The ledger entry of a request, once `until` holds of it."""
        with trio.fail_after(DEADLINE_SECONDS):
            while True:
                found = (await self.look(f"/_sim/ledger?request_id={request_id}"))["entries"]
                if found and until(found[0]):
                    entry: dict[str, Any] = found[0]
                    return entry
                await trio.sleep(0.01)

    async def latest(self, until: Callable[[dict[str, Any]], bool] = lambda _: True) -> dict[str, Any]:
        """The newest ledger entry, once `until` holds of it."""
        with trio.fail_after(DEADLINE_SECONDS):
            while True:
                found = (await self.look("/_sim/ledger?headers=1"))["entries"]
                if found and until(found[-1]):
                    entry: dict[str, Any] = found[-1]
                    return entry
                await trio.sleep(0.01)

    async def dial(self) -> trio.SocketStream:
        """A raw connection; the caller closes it."""
        return await trio.open_tcp_stream("127.0.0.1", self.port)

    async def talk(self, *sent: bytes) -> bytes:
        """All that comes back for raw bytes until the connection ends, `RESET` added for a reset."""
        async with await self.dial() as raw:
            for piece in sent:
                await raw.send_all(piece)
            return await read_to_end(raw)


async def read_to_end(raw: trio.SocketStream) -> bytes:
    """All bytes until the other side closes; a reset is noted as `RESET` at the end."""
    received = bytearray()
    with trio.fail_after(DEADLINE_SECONDS):
        try:
            while data := await raw.receive_some():
                received += data
        except trio.BrokenResourceError:
            received += RESET
    return bytes(received)


async def read_until(raw: trio.SocketStream, mark: bytes) -> bytes:
    """Bytes up to the read that brought `mark`."""
    received = b""
    with trio.fail_after(DEADLINE_SECONDS):
        while mark not in received:
            data = await raw.receive_some()
            assert data, f"the connection ended before {mark!r}: {received!r}"
            received += data
    return received


def post(path: str, document: dict[str, Any], *headers: str) -> bytes:
    """A raw POST of JSON with an OpenAI-style key."""
    body = json.dumps(document).encode()
    lines = [
        f"POST {path} HTTP/1.1",
        "host: 127.0.0.1",
        "authorization: Bearer sk-test",
        "content-type: application/json",
        f"content-length: {len(body)}",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@contextlib.contextmanager
def running_sim(*arguments: str, environment: Mapping[str, str] | None = None) -> Iterator[SimProcess]:
    """`python -m bench.sim --port 0 --json` until the end of the block; it must then end with 0 on
    SIGTERM."""
    child = subprocess.Popen(
        [sys.executable, "-m", "bench.sim", "--port", "0", "--json", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
    )
    with child:
        try:
            assert child.stdout is not None
            base_url = json.loads(child.stdout.readline())["base_url"]
            yield SimProcess(base_url, child)
        finally:
            child.send_signal(signal.SIGTERM)
            assert child.wait(DEADLINE_SECONDS) == 0

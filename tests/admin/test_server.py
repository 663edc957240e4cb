"""The server: HTTP/1.1 only, no name of its own, and an end in bounded time."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys

import httpx
import pytest
import trio

from admin.server import GRACE_SECONDS, HEADER_BYTES_MAX, STOP_SECONDS_MAX, browser_url, listen
from storage.settings import Bind
from tests.admin.conftest import raw_exchange

CLOSE = b"Host: localhost\r\nConnection: close\r\n"


async def exchange(url: str, request: bytes) -> bytes:
    return await trio.to_thread.run_sync(raw_exchange, url, request)


async def test_it_does_not_speak_http2_in_the_clear(admin_url: str) -> None:
    upgrade = (
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
    )
    answer = await exchange(admin_url, upgrade + b"Connection: Upgrade, HTTP2-Settings, close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200")
    prior = await exchange(admin_url, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    assert not prior.startswith(b"\x00")
    assert b"101" not in prior.partition(b"\r\n")[0]


async def test_it_does_not_say_what_it_is(admin_url: str) -> None:
    answer = await exchange(admin_url, b"GET /healthz HTTP/1.1\r\n" + CLOSE + b"\r\n")
    assert b"hypercorn" not in answer.lower()


async def test_headers_are_bounded(admin_url: str) -> None:
    answer = await exchange(admin_url, b"GET / HTTP/1.1\r\nX: " + b"x" * HEADER_BYTES_MAX * 2 + b"\r\n\r\n")
    assert answer[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 431")


def test_loopback_is_called_localhost() -> None:
    with listen(Bind("127.0.0.1", 0)) as listener:
        assert browser_url(listener) == f"http://localhost:{listener.getsockname()[1]}"
    with listen(Bind("0.0.0.0", 0)) as listener:
        assert browser_url(listener).startswith("http://0.0.0.0:")


def test_a_taken_port_is_an_os_error() -> None:
    with listen(Bind("127.0.0.1", 0)) as listener, pytest.raises(OSError, match="in use"):
        listen(Bind("127.0.0.1", listener.getsockname()[1]))


def start(database_url: str) -> subprocess.Popen[str]:
    """A `karta admin`; its first line is its URL."""
    environment = {**os.environ, "KARTA_DATABASE_URL": database_url, "KARTA_ADMIN_BIND": "127.0.0.1:0"}
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "karta", "admin", "--json"],
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    )


@pytest.mark.skipif(sys.platform != "linux", reason="another process's limits are told by Linux alone")
def test_it_leaves_no_core_file(database_url: str) -> None:
    with start(database_url) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        try:
            assert resource.prlimit(process.pid, resource.RLIMIT_CORE) == (0, 0)
        finally:
            process.terminate()


def test_a_client_that_does_not_read_cannot_keep_it_alive(database_url: str) -> None:
    assert GRACE_SECONDS < STOP_SECONDS_MAX
    with start(database_url) as process:
        assert process.stdout is not None
        url = httpx.URL(process.stdout.readline().split('"')[3])
        with socket.socket() as stalled:
            stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            stalled.connect(("127.0.0.1", url.port or 0))
            request = b"GET /static/karta.css HTTP/1.1\r\nHost: localhost\r\n\r\n"
            # Far more answers than all buffers hold, and not one is read.
            stalled.settimeout(1)
            try:
                for _ in range(5000):
                    stalled.sendall(request)
            except TimeoutError:
                pass
            process.send_signal(signal.SIGTERM)
            assert process.wait(STOP_SECONDS_MAX + 20) == 0

"""An answer is sent to its end, and then the connection does what the client asked."""

from __future__ import annotations

import pytest
import trio

from tests.admin.conftest import raw_exchange


@pytest.mark.parametrize("path", ["/healthz", "/sign-in", "/nowhere"])
async def test_connection_close_closes(admin_url: str, path: str) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    # Reads until the other side closes, and fails when it does not.
    answer = await trio.to_thread.run_sync(raw_exchange, admin_url, request)
    assert answer.count(b"HTTP/1.1") == 1
    assert b"\r\n\r\n" in answer


async def test_a_connection_is_kept_otherwise(admin_url: str) -> None:
    one = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    last = one.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    answer = await trio.to_thread.run_sync(raw_exchange, admin_url, one + last)
    assert answer.count(b"HTTP/1.1 200") == 2

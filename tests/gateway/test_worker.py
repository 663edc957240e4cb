"""One process as a whole: it starts without its database, and what it answered is counted however it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from gateway.spool import Spool, SpoolLocked
from storage.bridge import open_database
from tests.gateway.conftest import Stage, Tenant
from tests.support.gateway import poll, running_gateway
from tests.support.scripted_provider import answering, scripted_provider, silent

READY_SECONDS_MAX = 30
ANSWER = b'{"type":"message","model":"m","usage":{"input_tokens":3,"output_tokens":4}}'


def request(token: str) -> bytes:
    body = b'{"model":"m","max_tokens":1,"messages":[]}'
    head = (
        f"POST /v1/messages HTTP/1.1\r\nhost: karta\r\nx-api-key: {token}\r\ncontent-length: {len(body)}\r\n"
    )
    return head.encode() + b"connection: close\r\n\r\n" + body


@contextlib.contextmanager
def gateway_process(tenant: Tenant, provider_url: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """`karta gateway` as it is run in production: a process of its own; and its port."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KARTA_")} | {
        "KARTA_DATABASE_URL": tenant.database_url,
        "KARTA_SPOOL_DIR": str(tenant.spool_dir),
        "KARTA_GATEWAY_BIND": "127.0.0.1:0",
        "KARTA_PROVIDER_ANTHROPIC_BASE_URL": provider_url,
        "KARTA_PROVIDER_ANTHROPIC_API_KEY": "sk-platform",
    }
    command = [sys.executable, "-m", "karta", "gateway", "--json"]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            yield process, int(line.rpartition(":")[2].strip(' "}\n'))
        finally:
            process.kill()


def ask(port: int, token: str) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=READY_SECONDS_MAX) as client:
        client.sendall(request(token))
        answer = b""
        while piece := client.recv(65536):
            answer += piece
    return answer


async def test_what_was_answered_is_counted_once_after_a_kill(own_tenant: Tenant) -> None:
    async with (
        scripted_provider(answering(ANSWER)) as provider,
        open_database(own_tenant.database_url, role=None) as db,
    ):
        for stop in (signal.SIGKILL, signal.SIGTERM):
            with gateway_process(own_tenant, provider.base_url) as (process, port):
                answer = await trio.to_thread.run_sync(ask, port, own_tenant.token)
                assert answer.endswith(ANSWER)
                process.send_signal(stop)
                code = await trio.to_thread.run_sync(process.wait, READY_SECONDS_MAX)
        assert code == 0
        # The second process shipped what the first had left in the journal, and its own.
        assert await db.fetch_value("SELECT count(*) FROM usage WHERE org_id = $1", own_tenant.org_id) == 2


async def test_two_workers_cannot_share_a_journal(tenant: Tenant) -> None:
    async with running_gateway(tenant.database_url, tenant.spool_dir, provider_url="http://127.0.0.1:9"):
        with pytest.raises(SpoolLocked):
            Spool(tenant.spool_dir)


async def test_it_starts_without_its_database_and_says_so(tmp_path: Path) -> None:
    nowhere = "postgresql://karta@127.0.0.1:9/karta"
    async with running_gateway(nowhere, tmp_path / "spool", provider_url="http://127.0.0.1:9") as gateway:
        answer = await gateway.exchange(b"GET /readyz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 503 ")
        alive = await gateway.exchange(b"GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        assert alive.startswith(b"HTTP/1.1 200 ")


async def test_a_worker_is_ready_once_it_has_seen_its_database(stage: Stage) -> None:
    async with stage(silent) as (gateway, _):
        await poll(lambda: gateway.worker.snapshot.ready)
        answer = await gateway.exchange(b"GET /readyz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")

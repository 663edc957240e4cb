"""The process: loopback, signals, a port that is taken."""

import signal
import ssl
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import trio
import trustme

from tests.bench.sim.process import DEADLINE_SECONDS, post, read_until, running_sim


async def test_sigint_ends_it_with_open_streams() -> None:
    with running_sim() as sim:
        async with await sim.dial() as raw:
            body = {"model": "sim:tokens=100000,pace_ms=10", "messages": [], "stream": True}
            await raw.send_all(post("/v1/chat/completions", body))
            await read_until(raw, b"data: ")
            sim.child.send_signal(signal.SIGINT)
            assert await trio.to_thread.run_sync(sim.child.wait, DEADLINE_SECONDS) == 0


async def test_it_is_bound_to_loopback() -> None:
    with running_sim() as sim:
        assert sim.base_url.startswith("http://127.0.0.1:")
        port = f"{sim.port:04X}"
        lines = (await trio.Path("/proc/net/tcp").read_text()).splitlines()
        assert [line.split()[1] for line in lines if f":{port} 00000000:0000 0A" in line] == [
            f"0100007F:{port}"
        ]


def test_a_taken_port_is_said() -> None:
    with running_sim() as sim:
        second = subprocess.run(
            [sys.executable, "-m", "bench.sim", "--port", str(sim.port)],
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE_SECONDS,
        )
    assert second.returncode == 1
    assert "choose another --port" in second.stderr


async def test_it_speaks_tls(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with running_sim("--certificate", str(tmp_path / "server.pem")) as sim:
        assert sim.base_url.startswith("https://127.0.0.1:")
        headers = {"x-api-key": "k", "x-sim-behaviour": "bytes=1000000"}
        async with httpx.AsyncClient(base_url=sim.base_url, verify=context, headers=headers) as client:
            assert len((await client.get("/v1/files/f/content")).content) == 1_000_000
            with pytest.raises(httpx.RemoteProtocolError):
                await client.get("/v1/files/f/content", headers={"x-sim-behaviour": "die_after=10,die=fin"})

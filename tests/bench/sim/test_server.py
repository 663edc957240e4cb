"""The process: loopback, signals, a port that is taken."""

import signal
import subprocess
import sys

import trio

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

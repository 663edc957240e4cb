"""Connections are opened, and a target that is down is a failure and not the end."""

import asyncio
import socket

import pytest
import uvloop

from bench.load.answer import Failure
from bench.load.connection import LoadConnection
from bench.load.dialing import Dialler
from bench.load.drivers import ClosedLoop
from bench.load.tally import Tally
from tests.bench.load.driving import plan_for
from tests.bench.scripted_server import scripted_server, unary

DEADLINE_SECONDS = 10.0


@pytest.mark.parametrize("url", ["ftp://h", "h:1", "http://"])
def test_only_http_urls_are_targets(url: str) -> None:
    with pytest.raises(ValueError, match="http:// or https://"):
        Dialler(url, Tally(), lambda _: None)


def test_every_wanted_connection_is_opened() -> None:
    async def dial_all(base_url: str) -> int:
        plan = plan_for(base_url, connections=100)
        driver = ClosedLoop(plan, Tally())
        opened: list[LoadConnection] = []
        done = asyncio.Event()

        def on_connected(connection: LoadConnection) -> None:
            assert connection.connected
            opened.append(connection)
            if len(opened) == plan.connections:
                done.set()

        dialler = Dialler(base_url, driver.tally, on_connected)
        async with asyncio.timeout(DEADLINE_SECONDS), asyncio.TaskGroup() as tasks:
            running = tasks.create_task(dialler.run())
            for connection in driver.connections:
                dialler.want(connection)
            await done.wait()
            driver.close()
            running.cancel()
        return len(set(opened))

    with scripted_server(lambda _: [unary(b"{}")]) as server:
        assert uvloop.run(dial_all(server.base_url)) == 100


def test_a_target_that_comes_up_late_is_found() -> None:
    async def dial_late() -> Tally:
        tally = Tally()
        connected = asyncio.Event()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        driver = ClosedLoop(plan_for(f"http://127.0.0.1:{port}"), tally)
        dialler = Dialler(driver.plan.base_url, tally, lambda _: connected.set())
        async with asyncio.timeout(DEADLINE_SECONDS), asyncio.TaskGroup() as tasks:
            running = tasks.create_task(dialler.run())
            dialler.want(driver.connections[0])
            while not tally.failed:
                await asyncio.sleep(0.001)
            with socket.create_server(("127.0.0.1", port)):
                await connected.wait()
                driver.close()
            running.cancel()
        return tally

    assert set(uvloop.run(dial_late()).failures) == {Failure.CONNECT}

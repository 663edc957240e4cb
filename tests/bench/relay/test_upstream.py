"""The pool hands out what came back last, and says why it cannot dial."""

import socket

import pytest

from bench.relay.upstream import UpstreamPool
from tests.bench.scripted_server import scripted_server, unary


@pytest.mark.parametrize("url", ["https://127.0.0.1:1", "http://127.0.0.1:1/v1", "127.0.0.1:1", "http://"])
def test_only_a_plain_origin_will_do(url: str) -> None:
    with pytest.raises(ValueError, match="origin such as"):
        UpstreamPool(url)


async def test_the_last_given_back_is_the_first_taken() -> None:
    with scripted_server(lambda _: [unary(b"{}")]) as server:
        pool = UpstreamPool(server.base_url)
        one, other = await pool.take(), await pool.take()
        assert one is not other
        assert not one.reused
        pool.give_back(one)
        pool.give_back(other)
        assert await pool.take() is other
        assert other.reused
        pool.give_back(other)
        pool.close()
        assert one.sock.fileno() == other.sock.fileno() == -1


async def test_a_closed_port_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(OSError, match="refused"):
        await UpstreamPool(f"http://127.0.0.1:{port}").dial()

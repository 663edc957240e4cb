"""What a session asks of the server, over TCP: where a host may be lost without a word."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from storage.bridge import open_database
from storage.deadlines import LOST_HOST_SECONDS_MAX
from storage.session_settings import session_settings
from tests.support.postgres import PostgresServer


def test_a_lost_host_is_noticed_within_its_bound() -> None:
    settings = {name: int(value) for name, value in session_settings(None).items() if name.startswith("tcp_")}
    silence = settings["tcp_keepalives_idle"]
    silence += settings["tcp_keepalives_interval"] * settings["tcp_keepalives_count"]
    assert silence == LOST_HOST_SECONDS_MAX == settings["tcp_user_timeout"] / 1000


def test_the_role_is_asked_for_only_where_there_is_one() -> None:
    assert session_settings("karta_gateway")["role"] == "karta_gateway"
    assert "role" not in session_settings(None)


@pytest.mark.one_python
async def test_the_server_keeps_to_it_over_tcp() -> None:
    # An address that nobody else listens on.
    address = f"127.8.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"
    with tempfile.TemporaryDirectory(prefix="karta-pg-", dir="/tmp") as folder:
        server = PostgresServer(Path(folder))
        server.settings = {"listen_addresses": address}
        server.start()
        try:
            url = f"postgresql://postgres@{address}/postgres"
            async with open_database(url, role=None) as db:
                for name, value in session_settings(None).items():
                    if name.startswith("tcp_keepalives"):
                        assert await db.fetch_value("SELECT current_setting($1)", name) == value
                seen = await db.fetch_value("SELECT current_setting('tcp_user_timeout')")
                assert seen == str(LOST_HOST_SECONDS_MAX * 1000)
        finally:
            server.stop()

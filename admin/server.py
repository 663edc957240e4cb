"""`karta admin`: Hypercorn on Trio, inside storage's loop.

Two of Hypercorn's habits are mended here, both measured and written down in docs/decisions. It answers
an `Upgrade: h2c` (and HTTP/2 by prior knowledge) on the plain port, by which requests can be smuggled
past a proxy: this server stays on HTTP/1.1. And a write to a client that does not read is shielded, so
that a stop could last for ever: `STOP_SECONDS_MAX` after the signal the process ends, whatever is left.
Nothing is lost by that, since all state is in the database.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from functools import partial
from urllib.parse import urlsplit

import h11
import trio
from hypercorn.config import Config
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio import serve as hypercorn_serve

from admin.accounts.password_check import PasswordCheck
from admin.app import create_app
from admin.services import Services
from admin.settings import AdminSettings
from storage.bridge import open_database
from storage.settings import is_loopback

ROLE = "karta_admin"
DATABASE_CONNECTIONS_MAX = 4
GRACE_SECONDS = 5.0
"""How long answers under way may take to finish at a stop."""
STOP_SECONDS_MAX = 8.0
HEADER_BYTES_MAX = 32 * 1024
KEEP_ALIVE_SECONDS = 30


def main(settings: AdminSettings, *, on_ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM. `on_ready` is called once with the URL to open in a browser.

    Raises `OSError` when the port is taken.
    """
    trio.run(_run, settings, on_ready)


async def _run(settings: AdminSettings, on_ready: Callable[[str], None]) -> None:
    stop = trio.Event()
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                partial(serve, settings, on_ready=on_ready, stop=stop, done=nursery.cancel_scope)
            )
            await anext(signals)
            _end_at_last(STOP_SECONDS_MAX)
            stop.set()


async def serve(
    settings: AdminSettings,
    *,
    on_ready: Callable[[str], None],
    stop: trio.Event,
    done: trio.CancelScope | None = None,
) -> None:
    """Serve inside a Trio run, until `stop`; then cancels `done`, if given."""
    url = settings.database_url.get_secret_value()
    async with open_database(url, role=ROLE, connections_max=DATABASE_CONNECTIONS_MAX) as db:
        app = create_app(Services(db, settings, PasswordCheck()))
        async with trio.open_nursery() as nursery:
            binds: list[str] = await nursery.start(
                partial(hypercorn_serve, app, _config(settings), shutdown_trigger=stop.wait)
            )
            on_ready(browser_url(binds[0]))
    if done is not None:
        done.cancel()


def browser_url(bound: str) -> str:
    """The URL to open: `localhost` for loopback, since browsers allow secure cookies on that name only."""
    parts = urlsplit(bound)
    return f"http://localhost:{parts.port}" if is_loopback(parts.hostname or "") else bound


def _config(settings: AdminSettings) -> Config:
    config = Config()
    config.bind = [str(settings.admin_bind)]
    config.include_server_header = False
    config.graceful_timeout = GRACE_SECONDS
    config.keep_alive_timeout = KEEP_ALIVE_SECONDS
    config.h11_max_incomplete_size = HEADER_BYTES_MAX
    config.loglevel = "WARNING"
    return config


async def _stay_on_http1(self: H11Protocol, event: h11.Request) -> None:
    """Instead of Hypercorn's own look at upgrades: there are none."""


H11Protocol._check_protocol = _stay_on_http1  # type: ignore[method-assign]


def _end_at_last(seconds: float) -> None:
    timer = threading.Timer(seconds, os._exit, (0,))
    timer.daemon = True
    timer.start()

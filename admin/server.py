"""`karta admin`: Hypercorn on Trio, inside storage's loop.

What Hypercorn speaks is mended in `http1`. One more habit of it was measured and written down in
docs/decisions: a write to a client that does not read is shielded, so that a stop could last for ever. So
`STOP_SECONDS_MAX` after the signal the process ends, whatever is left. Nothing is lost by that, since all
state is in the database.
"""

from __future__ import annotations

import gc
import math
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from functools import partial

import trio
from hypercorn.config import Config
from hypercorn.trio import serve as hypercorn_serve

from admin import http1
from admin.accounts.password_check import PasswordCheck
from admin.app import create_app
from admin.bookkeeping import keep_books
from admin.housekeeping import keep_house
from admin.mail.mailer import keep_sending
from admin.payment_events import PaymentEvents
from admin.payment_upkeep import PaymentUpkeep
from admin.payments import no_payments
from admin.provider_check import Endpoint
from admin.services import Services
from admin.settings import DATABASE_CONNECTIONS_MAX, STALLED_SECONDS, AdminSettings
from admin.stripe_payments import StripePayments
from admin.trust.sub_processors import SubProcessorsFile
from admin.webhooks.standalone import make_dialer
from admin.webhooks.worker import Worker
from storage.bridge import open_database
from storage.core_files import leave_no_core_file
from storage.settings import Bind, is_loopback

ROLE = "karta_admin"
GRACE_SECONDS = 5.0
"""How long answers under way may take to finish at a stop."""
STOP_SECONDS_MAX = 8.0
HEADER_BYTES_MAX = 32 * 1024
KEEP_ALIVE_SECONDS = 30
BACKLOG_MAX = 100
"""Connections the kernel holds ready; these are people's browsers, not programs."""


def main(
    settings: AdminSettings,
    endpoints: Mapping[str, Endpoint],
    *,
    on_ready: Callable[[str], None],
    listening: int | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM. `on_ready` is called once with the URL to open in a browser.

    `listening` is the descriptor of a listening socket that this process shares with others, instead of one
    of its own. Raises `OSError` when the port is taken.
    """
    leave_no_core_file()
    _calm_collector()
    shared = None if listening is None else socket.socket(fileno=listening)
    with shared or listen(settings.admin_bind, settings.admin_stalled_seconds) as listener:
        trio.run(_run, settings, endpoints, listener, on_ready)


async def _run(
    settings: AdminSettings,
    endpoints: Mapping[str, Endpoint],
    listener: socket.socket,
    on_ready: Callable[[str], None],
) -> None:
    stop = trio.Event()
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:

            async def serve_to_the_end() -> None:
                await serve(settings, listener, endpoints, on_ready=on_ready, stop=stop)
                nursery.cancel_scope.cancel()

            nursery.start_soon(serve_to_the_end)
            await anext(signals)
            _end_at_last(STOP_SECONDS_MAX)
            stop.set()


async def serve(
    settings: AdminSettings,
    listener: socket.socket,
    endpoints: Mapping[str, Endpoint] | None = None,
    *,
    on_ready: Callable[[str], None],
    stop: trio.Event,
) -> None:
    """Serve inside a Trio run, until `stop`. `endpoints` are where providers' keys are tried."""
    url = settings.database_url.get_secret_value()
    http1.install()
    async with open_database(url, role=ROLE, connections_max=DATABASE_CONNECTIONS_MAX) as db:
        origin = settings.admin_url or browser_url(listener)
        master_keys = settings.load_master_keys()
        dialer = make_dialer(settings, origin)
        payments = no_payments() if settings.stripe_api_key is None else StripePayments(settings)
        addresses = settings.load_allowed_addresses()
        events = PaymentEvents(db, payments)
        services = Services(
            *(db, settings, PasswordCheck(), origin, master_keys, endpoints or {}),
            webhooks=dialer,
            payments=payments,
            stripe_addresses=addresses,
            sub_processors=SubProcessorsFile(settings.sub_processors_file),
            wake_payments=events.wake,
        )
        app = create_app(services)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_house, services)
            nursery.start_soon(keep_sending, services)
            if payments.is_set_up:
                metered = settings.stripe_meter_event is not None
                nursery.start_soon(events.run)
                nursery.start_soon(PaymentUpkeep(db, payments, addresses, metered=metered).run)
            nursery.start_soon(keep_books, db)
            if settings.webhooks_deliver and master_keys is not None:
                nursery.start_soon(Worker(db, master_keys, dialer).run)
            async with trio.open_nursery() as serving:
                await serving.start(
                    partial(hypercorn_serve, app, _config(listener), shutdown_trigger=stop.wait)
                )
                on_ready(browser_url(listener))
            nursery.cancel_scope.cancel()


def listen(bind: Bind, stalled_seconds: float = STALLED_SECONDS) -> socket.socket:
    """The listening socket. Raises `OSError`.

    A connection whose other end takes nothing for `stalled_seconds` is reset by the kernel: Hypercorn writes
    in a shielded scope, which no deadline of ours ends, and an export would stay in the making for ever.
    """
    family = socket.AF_INET6 if ":" in bind.host else socket.AF_INET
    listener = socket.create_server((bind.host, bind.port), family=family, backlog=BACKLOG_MAX)
    if sys.platform == "linux":
        # What is accepted has it too.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, math.ceil(stalled_seconds * 1000))
    return listener


def browser_url(listener: socket.socket) -> str:
    """The URL to open: `localhost` for loopback, since browsers allow secure cookies on that name only."""
    host, port = listener.getsockname()[:2]
    return f"http://localhost:{port}" if is_loopback(host) else f"http://{Bind(host, port)}"


def _config(listener: socket.socket) -> Config:
    config = Config()
    # Of a descriptor of its own, which Hypercorn closes.
    config.bind = [f"fd://{listener.dup().detach()}"]
    config.backlog = BACKLOG_MAX
    config.include_server_header = False
    config.graceful_timeout = GRACE_SECONDS
    config.keep_alive_timeout = KEEP_ALIVE_SECONDS
    config.h11_max_incomplete_size = HEADER_BYTES_MAX
    config.loglevel = "WARNING"
    return config


def _calm_collector() -> None:
    """What was imported stays for good and need not be looked at again; what a page makes is mostly freed
    without the collector."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)


def _end_at_last(seconds: float) -> None:
    timer = threading.Timer(seconds, os._exit, (0,))
    timer.daemon = True
    timer.start()

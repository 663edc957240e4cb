"""The delivery worker by itself (`karta webhooks`), for who wants it apart from the pages: in a network
namespace of its own, say, from which nothing private can be reached at all."""

from __future__ import annotations

import signal
import ssl
from collections.abc import Callable
from urllib.parse import urlsplit

import trio

from admin.settings import AdminSettings
from admin.webhooks.dialing import Dialer
from admin.webhooks.safe_address import Rules
from admin.webhooks.worker import Worker
from storage.bridge import open_database
from storage.core_files import leave_no_core_file
from storage.errors import SealError
from storage.migrate import check_schema

ROLE = "karta_admin"
DATABASE_CONNECTIONS_MAX = 3


def make_dialer(settings: AdminSettings, origin: str) -> Dialer:
    """As the settings say. `origin` is the pages'."""
    urls = (origin, settings.admin_url, settings.public_url, settings.status_url)
    own_hosts = frozenset(host for url in urls if url and (host := urlsplit(url).hostname) and "." in host)
    context = None
    if settings.webhooks_ca_file is not None:
        context = ssl.create_default_context()
        context.load_verify_locations(settings.webhooks_ca_file)
    return Dialer(Rules(settings.webhooks_allowed_networks, own_hosts), context)


def main(settings: AdminSettings, *, on_ready: Callable[[], None]) -> None:
    """Works until SIGTERM or SIGINT. Raises StorageError when the database is not of this release, SealError
    without a master key."""
    trio.run(_run, settings, on_ready)


async def _run(settings: AdminSettings, on_ready: Callable[[], None]) -> None:
    master_keys = settings.load_master_keys()
    if master_keys is None:
        raise SealError("no master key: set KARTA_MASTER_KEYS or KARTA_MASTER_KEYS_FILE")
    leave_no_core_file()
    url = settings.database_url.get_secret_value()
    origin = settings.admin_url or f"http://localhost:{settings.admin_bind.port}"
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with (
            open_database(url, role=ROLE, connections_max=DATABASE_CONNECTIONS_MAX) as db,
            trio.open_nursery() as nursery,
        ):
            await check_schema(db)
            nursery.start_soon(Worker(db, master_keys, make_dialer(settings, origin)).run)
            on_ready()
            await anext(signals)
            nursery.cancel_scope.cancel()

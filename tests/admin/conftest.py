"""A real admin server on a real database, and people in it."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import httpx
import pytest
import trio

from admin.provider_check import Endpoint
from admin.server import browser_url, listen, serve
from admin.settings import AdminSettings
from admin.stripe_settings import StripeSettings
from storage import key_format
from storage.bridge import Database
from storage.model import Actor, ActorKind, Organization, Plan, Role, User
from storage.organizations import create_organization
from storage.passwords import digest_password
from storage.sealing import MasterKeys
from storage.settings import Bind
from storage.users import add_member, create_user
from tests.admin.browser import Browser, open_browser
from tests.admin.browsing import Visitor
from tests.admin.compiled import routes_compiled_once, templates_compiled_once
from tests.karta.processes import Up
from tests.support.digests import REMEMBERING
from tests.support.localstripe import API_KEY, METER, SECRET, Desk, running_desk, running_localstripe

ACTOR = Actor(kind=ActorKind.SYSTEM, actor_id="tests")
PASSWORD = "correct horse battery staple"
MASTER_KEYS_TEXT = MasterKeys.generate()
MASTER_KEYS = MasterKeys.parse(MASTER_KEYS_TEXT)


@pytest.fixture(scope="session", autouse=True)
def _compiled_once() -> Iterator[None]:
    """Nearly every test here makes an app, and spent most of its time on what is the same in all of them."""
    with routes_compiled_once(), templates_compiled_once():
        yield


@cache
def password_digest() -> bytes:
    """Made in full, as programs that tests start are to know it, whichever test asks first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(key_format, "bcrypt", REMEMBERING)
        return digest_password(PASSWORD)


@dataclass
class Person:
    user: User
    email: str
    password: str
    organization: Organization


async def make_person(db: Database, email: str, *, plan: Plan = Plan.PRO, name: str = "Acme") -> Person:
    """The owner of an organization of their own."""
    user = await create_user(db, ACTOR, email=email, password_digest=password_digest())
    organization = await create_organization(db, ACTOR, name=name, plan=plan)
    await add_member(db, ACTOR, organization.org_id, user.user_id, Role.OWNER)
    return Person(user, email, PASSWORD, organization)


@pytest.fixture
async def person(admin_db: Database) -> Person:
    return await make_person(admin_db, "ada@example.com")


@asynccontextmanager
async def running_admin(
    database_url: str, *, endpoints: Mapping[str, Endpoint] | None = None, **settings: Any
) -> AsyncIterator[str]:
    """Yields the URL to open."""
    given = {"master_keys": MASTER_KEYS_TEXT, **settings}
    loaded = AdminSettings.load(database_url=database_url, **given)
    with listen(Bind("127.0.0.1", 0)) as listener:
        stop = trio.Event()
        ready = trio.Event()
        async with trio.open_nursery() as nursery:

            async def run() -> None:
                await serve(loaded, listener, endpoints, on_ready=lambda _: ready.set(), stop=stop)

            nursery.start_soon(run)
            await ready.wait()
            yield browser_url(listener)
            stop.set()


@pytest.fixture
async def admin_url(database_url: str) -> AsyncIterator[str]:
    async with running_admin(database_url) as url:
        yield url


@pytest.fixture
async def visitor(admin_url: str) -> AsyncIterator[Visitor]:
    """Somebody with a browser, not signed in."""
    async with Visitor(admin_url) as visitor:
        yield visitor


@pytest.fixture
async def signed_in(visitor: Visitor, person: Person) -> Visitor:
    """The same somebody, signed in as `person`."""
    assert (await visitor.sign_in(person.email, person.password)).status_code == 303
    return visitor


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A whole Karta, as its users start it."""
    with Up(tmp_path_factory.mktemp("browser") / "data") as running:
        running.wait_ready()
        yield running


@pytest.fixture
def browser() -> Iterator[Browser]:
    """A browser that must not have complained of anything at the end."""
    with open_browser() as browser:
        yield browser
        assert browser.complaints() == []


async def make_stale(db: Database) -> None:
    """Nobody's proof is fresh any more."""
    await db.execute("UPDATE sessions SET stepped_up_at = now() - interval '6 minutes'")


def raw_exchange(url: str, request: bytes) -> bytes:
    """Bytes to the server as they are, and all that comes back until it closes."""
    parts = httpx.URL(url)
    with socket.create_connection(("127.0.0.1", parts.port or 0), timeout=20) as connection:
        connection.sendall(request)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
        return answer


@pytest.fixture(scope="session")
def localstripe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One for all: customers are told apart."""
    with running_localstripe(tmp_path_factory.mktemp("localstripe")) as origin:
        yield origin


@pytest.fixture
def desk(localstripe: str) -> Iterator[Desk]:
    with running_desk(localstripe) as desk:
        yield desk


def stripe_settings(origin: str) -> dict[str, Any]:
    """By which the pages find a desk, or what stands in its place."""
    given = {
        "stripe_api_key": API_KEY,
        "stripe_webhook_secret": SECRET,
        "stripe_api_base": origin,
        "stripe_price_pro": ["price_pro"],
        "stripe_price_usage": "price_usage",
        "stripe_meter_event": "karta_usage",
        "stripe_meter_id": METER,
        "stripe_pages": [origin],
    }
    assert set(given) <= set(StripeSettings.model_fields)
    return given

"""Fixtures every test may ask for. Async tests run on trio; databases are real (see
tests/support/postgres.py)."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import certifi
import pytest
import trustme
from hypothesis import settings

from storage import key_format
from storage.bridge import Database, open_database
from storage.migrate import migrate
from tests.fuzz import examples
from tests.support.digests import QUICK, REMEMBERING
from tests.support.postgres import PostgresServer, run_in_own_trio, running_server
from tests.support.tenant import own_tenant as own_tenant
from tests.support.tenant import tenant_template as tenant_template

# The same examples each time, so that what the tests say hangs on the code alone; `tox -e explore` looks for
# new ones.
settings.register_profile("same", derandomize=True, database=None, deadline=None)
settings.register_profile("new", database=None, deadline=None, print_blob=True)
settings.load_profile("new" if examples.FACTOR else "same")
# For `tox -e mutants`, which runs a test hundreds of times.
settings.register_profile("mutants", settings.get_profile("same"), max_examples=20)

TEMPLATE = "karta_template"
_HERE = Path(__file__).parent
_numbers = itertools.count(1)
_FOR_ONE_MORE = "not one_python"
"""tox's `-m` for each Python but the one that tests all."""

# What is tested on each Python: whatever touches the interpreter or the system by it (sockets, tasks, memory,
# TLS), and enough of the rest to see that it runs. All else hangs on programs, browsers, sums and bytes.
_EACH_PYTHON = {
    "admin": {"app", "server"},
    "gateway": {
        *("accept", "connection", "decrypt", "exchange", "forward", "forward_pressure", "lane"),
        *("lane_answers", "left_alone", "pipeline", "process", "readiness", "socket_state"),
        *("tls_transport", "wire", "worker"),
    },
    "karta": {"cli"},
    # Of the SDKs' tests those that tell most of the gateway's own ways.
    "sdk": {"bytes", "anthropic_messages", "openai_text"},
    "storage": {"bridge", "errors", "key_format", "model", "passwords", "sealed_box", "sealing", "settings"},
}


_ABOUT_DIGESTS = (
    *("test_key_format", "test_passwords", "test_key_check", "accounts/test_password_check"),
    *("test_authenticate", "test_shared_keys"),
)
"""And about their taking long: what happens meanwhile."""
_DIGESTS_OF_THEIR_OWN = {"admin", "storage"}
"""Where no program that a test starts has to know a digest that the test made."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One more than there are cores: tests wait a third of their time, for programs, deadlines and disks. But
    of tox's environments for one Python more, two run at a time."""
    cores = len(os.sched_getaffinity(0))
    return cores if config.option.markexpr == _FOR_ONE_MORE else cores + 1


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """For that, each worker imported ten times what it then ran."""
    if config.option.markexpr != _FOR_ONE_MORE or not collection_path.is_relative_to(_HERE):
        return None
    path = collection_path.relative_to(_HERE)
    if collection_path.is_dir():
        unknown = bool(path.parts) and path.parts[0] not in _EACH_PYTHON
    else:
        unknown = path.stem.startswith("test_") and not _is_for_each_python(path)
    return unknown or None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Before `-m` chooses."""
    for item in items:
        if not _is_for_each_python(item.path.relative_to(_HERE)):
            item.add_marker("one_python")


def _is_for_each_python(path: Path) -> bool:
    return path.stem.removeprefix("test_") in _EACH_PYTHON.get(path.parts[0], set())


@pytest.fixture
def anyio_backend() -> str:
    return "trio"


@pytest.fixture(scope="session", autouse=True)
def _one_authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One authority that vouches for nobody, instead of the system's hundred: each TLS context that an SDK or
    an HTTP client makes reads all it trusts, which costs 20 ms or more, and no test talks to the world. A
    client that does not heed the environment asks certifi."""
    file = tmp_path_factory.mktemp("authority") / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(file))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(file))
        patch.setattr(certifi, "where", lambda: str(file))
        yield


@pytest.fixture(autouse=True)
def _quick_digests(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a fixture makes for a whole session or module is real, as no test has begun by then."""
    folder, _, rest = request.node.nodeid.removeprefix("tests/").partition("/")
    if rest.startswith(_ABOUT_DIGESTS):
        return
    quick = folder in _DIGESTS_OF_THEIR_OWN or (folder == "karta" and rest.startswith("commands/"))
    monkeypatch.setattr(key_format, "bcrypt", QUICK if quick else REMEMBERING)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The session's server, with nothing but PostgreSQL in it. Do not stop it: others need it."""
    with running_server() as server:
        yield server


@pytest.fixture(scope="session")
def migrated_template(postgres_server: PostgresServer) -> str:
    """The name of a database with the newest schema; nobody may connect to it, or it cannot be copied."""
    postgres_server.create_database(TEMPLATE)
    run_in_own_trio(migrate, postgres_server.url(TEMPLATE))
    return TEMPLATE


@pytest.fixture
def database_name(postgres_server: PostgresServer, migrated_template: str) -> Iterator[str]:
    """A fresh copy of the migrated template, dropped afterwards."""
    name = f"t{os.getpid()}_{next(_numbers)}"
    postgres_server.create_database(name, migrated_template)
    yield name
    postgres_server.drop_database(name)


@pytest.fixture
def empty_database_name(postgres_server: PostgresServer) -> Iterator[str]:
    """A fresh database without a schema, dropped afterwards."""
    name = f"e{os.getpid()}_{next(_numbers)}"
    postgres_server.create_database(name)
    yield name
    postgres_server.drop_database(name)


@pytest.fixture
def database_url(postgres_server: PostgresServer, database_name: str) -> str:
    """The owner's URL: what KARTA_DATABASE_URL would be."""
    return postgres_server.url(database_name)


@pytest.fixture
async def owner_db(database_url: str) -> AsyncIterator[Database]:
    """The owner's (and superuser's) view: for migrations, for attempts at the audit log, for arranging
    damage."""
    async with open_database(database_url, role=None) as db:
        yield db


@pytest.fixture
async def admin_db(database_url: str) -> AsyncIterator[Database]:
    """The control plane's view: what `karta admin` and the command line run as."""
    async with open_database(database_url, role="karta_admin") as db:
        yield db


@pytest.fixture
async def gateway_db(database_url: str) -> AsyncIterator[Database]:
    """The data plane's view: what `karta gateway` runs as."""
    async with open_database(database_url, role="karta_gateway") as db:
        yield db

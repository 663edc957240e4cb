"""schemathesis makes requests of the document: no fault of ours, no answer that it does not describe.

A few for each operation, the same ones each time. `KARTA_TEST_API_EXAMPLES=200` makes so many, others each
time, and those at the edges of every schema (`tox -e api`).
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
import schemathesis
import trio
from hypothesis import HealthCheck, settings
from schemathesis.config import SchemathesisConfig

from admin import throttle
from admin.management_api.document import make
from storage.bridge import open_database
from storage.throttles import Rule
from tests.admin.conftest import make_person, running_admin
from tests.admin.management_api.client import mint

EXAMPLES = int(os.environ.get("KARTA_TEST_API_EXAMPLES", "0"))
START_SECONDS_MAX = 60


# Some rules no schema says: which period goes with which kind, that a time has not passed.
_REFUSED_AS_WELL = ["2xx", "403", "404", "409", "422"]


def config() -> SchemathesisConfig:
    return SchemathesisConfig.from_dict(
        {
            "phases": {"coverage": {"enabled": bool(EXAMPLES)}},
            "checks": {"positive_data_acceptance": {"expected-statuses": _REFUSED_AS_WELL}},
        }
    )


schema = schemathesis.openapi.from_dict(make(), config=config())


class Running:
    """An admin server in a thread of its own, since schemathesis blocks."""

    def __init__(self, database_url: str) -> None:
        self._database_url = database_url
        self._ready = threading.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._run,), daemon=True)
        self._thread.start()
        assert self._ready.wait(START_SECONDS_MAX)

    async def _run(self) -> None:
        async with open_database(self._database_url, role="karta_admin") as db:
            person = await make_person(db, "ada@example.com")
            _, self.token = await mint(db, person)
        self.org_id = person.organization.org_id
        self._stop = trio.Event()
        self._trio = trio.lowlevel.current_trio_token()
        async with running_admin(self._database_url) as self.url:
            self._ready.set()
            await self._stop.wait()

    def stop(self) -> None:
        self._trio.run_sync_soon(self._stop.set)
        self._thread.join(START_SECONDS_MAX)
        assert not self._thread.is_alive()


@pytest.fixture(scope="module")
def running(postgres_server: Any, migrated_template: str) -> Iterator[Running]:
    name = "fuzzed_api"
    postgres_server.create_database(name, migrated_template)
    with pytest.MonkeyPatch.context() as patch:
        for rule_name, rule in vars(throttle).items():
            if isinstance(rule, Rule) and rule_name.startswith("API_"):
                patch.setattr(throttle, rule_name, Rule(rule.name, 10**6, rule.period_seconds))
        running = Running(postgres_server.url(name))
        yield running
        running.stop()
    postgres_server.drop_database(name)


@schema.parametrize()
@settings(
    max_examples=EXAMPLES or 6,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_as_described(case: Any, running: Running) -> None:
    with contextlib.suppress(ValueError, KeyError, AttributeError, TypeError):
        UUID(case.path_parameters["org_id"])
        case.path_parameters["org_id"] = str(running.org_id)
    case.call_and_validate(
        base_url=f"{running.url}/api/v1", headers={"Authorization": f"Bearer {running.token}"}
    )

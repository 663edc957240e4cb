"""What an operation sees of its call, and what is written of it."""

from __future__ import annotations

from admin.management_api.call import Call
from admin.management_api.operations import OPERATIONS
from storage.audit import select_audit_rows
from storage.bridge import Database
from storage.management_keys import select_acting
from tests.admin.conftest import Person
from tests.admin.management_api.client import Client, mint


async def test_a_change_names_the_key_and_the_request(
    api: Client, admin_db: Database, person: Person, token: str
) -> None:
    response = await api.call("PATCH", api.org, json={"name": "Other"}, headers={"User-Agent": "nightly/1"})
    assert response.status_code == 200
    row = (await select_audit_rows(admin_db, person.organization.org_id))[-1]
    assert (row.event, row.actor_kind, row.actor_id) == (
        "organization:renamed",
        "management_key",
        token.split("_")[2],
    )
    assert (row.address, row.user_agent) == ("127.0.0.1", "nightly/1")
    assert row.request_id == response.headers["x-request-id"]


async def test_nothing_that_was_sent_is_in_a_repr(admin_db: Database, person: Person) -> None:
    key, _ = await mint(admin_db, person)
    acting = await select_acting(admin_db, key.key_id)
    assert acting is not None
    assert "secret" not in repr(Call(acting=acting, path={}, body="secret", query="secret"))


def test_what_reads_and_what_writes() -> None:
    assert {operation.method for operation in OPERATIONS if not operation.is_write} == {"GET"}
    assert all(operation.endpoint == f"api.{operation.name}" for operation in OPERATIONS)

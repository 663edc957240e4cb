"""Every operation, for every scope, every role, and both organizations: from the table alone."""

from __future__ import annotations

import re
from uuid import uuid4

import pytest

from admin.authorization import TABLE, Audience
from admin.management_api.call import Operation
from admin.management_api.operations import OPERATIONS
from storage.audit import select_audit_rows
from storage.bridge import Database
from storage.management_keys import Scope
from storage.model import Role
from tests.admin.conftest import Person, make_person
from tests.admin.management_api.client import Client, problem_of

pytestmark = pytest.mark.usefixtures("untold_calls")


def path_of(operation: Operation, org_id: object) -> str:
    """With ids of nothing."""
    ids = {"org_id": str(org_id), "key_id": "nosuchkey000", "limit_id": "1", "delivery_id": "1"}
    return re.sub(r"\{(\w+)\}", lambda found: ids.get(found[1], str(uuid4())), operation.path)


def test_each_operation_has_its_row_and_no_row_is_left_over() -> None:
    rows = {name for name, access in TABLE.items() if access.audience is Audience.KEY}
    assert {operation.endpoint for operation in OPERATIONS} == rows
    assert len({(operation.method, operation.path) for operation in OPERATIONS}) == len(OPERATIONS)


async def ask(api: Client, operation: Operation, org_id: object) -> tuple[int, str]:
    """Without a body, so that what is allowed does nothing."""
    response = await api.call(operation.method, path_of(operation, org_id))
    return response.status_code, problem_of(response) if response.is_error else ""


async def test_each_scope_opens_its_operations_and_no_others(
    api: Client, owner_db: Database, person: Person
) -> None:
    for scope in Scope:
        await owner_db.execute("UPDATE management_keys SET scopes = $1", [scope.value])
        for operation in OPERATIONS:
            status, problem = await ask(api, operation, person.organization.org_id)
            if TABLE[operation.endpoint].scope in (scope, None):
                assert status in (200, 404, 415, 422), (operation.name, scope)
            else:
                assert (status, problem) == (403, "scope-missing"), (operation.name, scope)


async def test_the_role_bounds_the_scopes_then_and_now(
    api: Client, owner_db: Database, person: Person
) -> None:
    for role in Role:
        for then, now in ((role, Role.OWNER), (Role.OWNER, role)):
            await owner_db.execute("UPDATE management_keys SET role = $1", then.value)
            await owner_db.execute("UPDATE memberships SET role = $1", now.value)
            for operation in OPERATIONS:
                status, problem = await ask(api, operation, person.organization.org_id)
                if role in TABLE[operation.endpoint].roles:
                    assert status in (200, 404, 415, 422), (operation.name, then, now)
                else:
                    assert (status, problem) == (403, "role"), (operation.name, then, now)


async def test_another_organization_is_not_there(api: Client, admin_db: Database) -> None:
    elsewhere = (await make_person(admin_db, "eve@example.com")).organization.org_id
    before = await select_audit_rows(admin_db, elsewhere)
    for operation in OPERATIONS:
        if "{org_id}" in operation.path:
            for org_id in (elsewhere, uuid4()):
                assert await ask(api, operation, org_id) == (404, "not-found"), operation.name
    assert await select_audit_rows(admin_db, elsewhere) == before


async def test_without_a_live_key_nothing_is_told(
    admin_url: str, api: Client, owner_db: Database, person: Person
) -> None:
    async with Client(admin_url, None, person.organization.org_id) as nobody:
        for operation in OPERATIONS:
            for org_id in (person.organization.org_id, uuid4()):
                assert await ask(nobody, operation, org_id) == (401, "unauthenticated"), operation.name
    assert (await ask(api, OPERATIONS[0], None))[0] == 200
    await owner_db.execute("UPDATE management_keys SET revoked_at = now()")
    for operation in OPERATIONS:
        assert (await ask(api, operation, person.organization.org_id))[0] == 401, operation.name

"""The webhook part of the table of operations."""

from __future__ import annotations

from admin.authorization import TABLE
from admin.management_api.operations import OPERATIONS as ALL
from admin.management_api.webhook_operations import OPERATIONS
from storage.management_keys import Scope


def test_they_are_part_of_the_table_and_have_scopes_of_their_own() -> None:
    assert set(OPERATIONS) <= set(ALL)
    for operation in OPERATIONS:
        scope = Scope.WEBHOOKS_WRITE if operation.is_write else Scope.WEBHOOKS_READ
        assert TABLE[operation.endpoint].scope is scope


def test_a_secret_is_shown_once() -> None:
    assert {one.name for one in OPERATIONS if one.once == "secret"} == {
        "create_webhook",
        "rotate_webhook_secret",
    }

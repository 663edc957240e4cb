from __future__ import annotations

from admin.roles import WHAT_ROLES_DO
from storage.model import Role


def test_of_each_role_it_is_said_what_it_may_do() -> None:
    assert set(WHAT_ROLES_DO) == set(Role)

"""The first run's owner, organization and keys: once, whatever happens in between."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from karta.data_dir import DataDir
from karta.provision import NAME, OWNER_EMAIL, FirstRun, forget_secrets, provision
from storage.api_keys import select_keys
from storage.bridge import Database
from storage.model import Mode, Plan, Role
from storage.organizations import select_organizations_by_user
from storage.passwords import verify_password
from storage.users import select_user_by_email


@pytest.fixture
def data_dir(tmp_path: Path) -> DataDir:
    return DataDir.open(tmp_path / "data")


async def test_it_makes_what_a_first_request_needs(admin_db: Database, data_dir: DataDir) -> None:
    made = await provision(admin_db, data_dir)
    found = await select_user_by_email(admin_db, OWNER_EMAIL)
    assert found is not None
    assert verify_password(made.owner_password or "", found[1])
    ((organization, role),) = await select_organizations_by_user(admin_db, found[0].user_id)
    assert (organization.org_id, organization.plan, role) == (made.org_id, Plan.PRO, Role.OWNER)
    keys = await select_keys(admin_db, made.org_id)
    assert [key.mode for key in keys] == [Mode.LIVE, Mode.TEST]
    assert [
        f"kt_{key.mode.value}_{key.key_id}_" in (made.api_key or "") + (made.test_api_key or "")
        for key in keys
    ]


async def test_secrets_are_told_until_they_have_been_shown(admin_db: Database, data_dir: DataDir) -> None:
    made = await provision(admin_db, data_dir)
    assert await provision(admin_db, data_dir) == made
    forget_secrets(data_dir)
    later = await provision(admin_db, data_dir)
    assert later == FirstRun(org_id=made.org_id, owner_email=OWNER_EMAIL)
    assert set(data_dir.read(NAME)) == {"printed", "org_id", "owner_email"}
    assert len(await select_keys(admin_db, made.org_id)) == 2


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("writes", range(4))
async def test_one_that_was_killed_is_taken_up(
    admin_db: Database, data_dir: DataDir, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    left = writes
    write = data_dir.write

    def write_a_few_times(name: str, content: dict[str, Any]) -> None:
        nonlocal left
        if left == 0:
            raise Interrupted
        left -= 1
        write(name, content)

    with monkeypatch.context() as patched:
        patched.setattr(data_dir, "write", write_a_few_times)
        with pytest.raises(Interrupted):
            await provision(admin_db, data_dir)
    made = await provision(admin_db, data_dir)
    assert made.owner_password
    assert made.api_key
    assert made.test_api_key
    found = await select_user_by_email(admin_db, OWNER_EMAIL)
    assert found is not None
    assert verify_password(made.owner_password, found[1])
    assert len(await select_organizations_by_user(admin_db, found[0].user_id)) == 1


async def test_another_directory_on_the_same_database_learns_no_secret(
    admin_db: Database, data_dir: DataDir, tmp_path: Path
) -> None:
    made = await provision(admin_db, data_dir)
    other = await provision(admin_db, DataDir.open(tmp_path / "other"))
    assert other == FirstRun(org_id=made.org_id, owner_email=OWNER_EMAIL)
    forget_secrets(DataDir.open(tmp_path / "other"))
    assert await provision(admin_db, DataDir.open(tmp_path / "other")) == other
    assert len(await select_keys(admin_db, made.org_id)) == 2


async def test_another_directory_whose_first_run_was_interrupted_is_taken_up(
    admin_db: Database, data_dir: DataDir, tmp_path: Path
) -> None:
    made = await provision(admin_db, data_dir)
    other = DataDir.open(tmp_path / "other")
    # Nothing was printed after the first, so that `forget_secrets` was not reached.
    assert await provision(admin_db, other) == await provision(admin_db, other)
    assert await provision(admin_db, other) == FirstRun(org_id=made.org_id, owner_email=OWNER_EMAIL)


def test_secrets_are_not_in_its_repr() -> None:
    shown = repr(FirstRun(UUID(int=1), "a@example.com", "hunter2", "hunter2", "hunter2"))
    assert "hunter2" not in shown

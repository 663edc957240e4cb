"""What most tests of storage start from: an actor and an organization on a plan that allows everything."""

from __future__ import annotations

import pytest

from storage.bridge import Database
from storage.model import Actor, ActorKind, Organization, Plan
from storage.organizations import create_organization
from storage.sealing import MasterKeys


@pytest.fixture
def actor() -> Actor:
    return Actor(
        kind=ActorKind.CLI, actor_id="tester", address="192.0.2.7", user_agent="pytest", request_id="req-1"
    )


@pytest.fixture
async def org(admin_db: Database, actor: Actor) -> Organization:
    return await create_organization(admin_db, actor, name="Example", plan=Plan.PRO)


@pytest.fixture
def master_keys() -> MasterKeys:
    return MasterKeys({1: bytes(range(32))})

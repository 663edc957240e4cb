"""An organization for the commands that need one."""

from __future__ import annotations

import json

import pytest

from tests.karta.conftest import Karta


@pytest.fixture
def org_id(karta: Karta, database_url: str) -> str:
    """On the Pro plan."""
    arguments = ("--name", "Acme", "--plan", "pro", "--json", "--database-url", database_url)
    made: str = json.loads(karta("org", "create", *arguments)[1])["org_id"]
    return made

"""`karta migrate` on a real database."""

from __future__ import annotations

import json

from tests.karta.conftest import Karta
from tests.support.postgres import PostgresServer


def test_it_applies_what_is_missing_and_then_nothing(
    karta: Karta, postgres_server: PostgresServer, empty_database_name: str
) -> None:
    url = postgres_server.url(empty_database_name)
    code, out, _ = karta("migrate", "--json", "--database-url", url)
    assert code == 0
    first = json.loads(out)
    assert first["version"] == len(first["applied"]) > 0
    second = json.loads(karta("migrate", "--json", "--database-url", url)[1])
    assert second == {"version": first["version"], "applied": []}
    assert "Nothing to do" in karta("migrate", "--no-roles", "--database-url", url)[1]


def test_a_database_that_is_away_is_one_clear_line(karta: Karta) -> None:
    code, out, err = karta("migrate", "--database-url", "postgresql://karta@127.0.0.1:1/karta")
    assert (code, out, err.count("\n")) == (1, "", 1)

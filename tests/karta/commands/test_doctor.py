"""`karta doctor` as a command; what it finds is in tests/karta/test_diagnosis.py."""

from __future__ import annotations

import json

from tests.karta.conftest import Karta


def test_its_json_is_one_document(karta: Karta, database_url: str) -> None:
    code, out, _ = karta("doctor", "--json", "--database-url", database_url)
    document = json.loads(out)
    assert (code, document["ok"]) == (0, True)
    assert {setting["name"] for setting in document["settings"]} >= {"KARTA_ENV", "KARTA_DATABASE_URL"}


def test_for_people_it_is_two_tables(karta: Karta) -> None:
    code, out, _ = karta("doctor")
    assert code == 1
    settings, checks = out.split("\n\n")
    assert settings.startswith("SETTING")
    assert checks.startswith("CHECK")
    assert "failed" in checks

"""`karta byok …` on a real database, with the secret on stdin or in a file."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from storage.sealing import MasterKeys
from tests.karta.conftest import Document, Karta

SECRET = "sk-ant-0123456789-wxyz"


@pytest.fixture(autouse=True)
def _master_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KARTA_MASTER_KEYS", MasterKeys.generate())


def give_stdin(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))


@pytest.fixture
def sealed(karta: Karta, database_url: str, org_id: str, monkeypatch: pytest.MonkeyPatch) -> Document:
    give_stdin(monkeypatch, f"{SECRET}\n")
    arguments = ("--org", org_id, "--provider", "anthropic", "--json", "--database-url", database_url)
    code, out, _ = karta("byok", "set", *arguments)
    assert code == 0
    document: Document = json.loads(out)
    return document


def listed(karta: Karta, database_url: str, org_id: str) -> list[Document]:
    found: list[Document] = json.loads(
        karta("byok", "list", "--org", org_id, "--json", "--database-url", database_url)[1]
    )["credentials"]
    return found


def test_a_key_is_sealed_and_only_its_end_shown(
    karta: Karta, database_url: str, org_id: str, sealed: Document
) -> None:
    assert sealed["last_four"] == "wxyz"
    assert listed(karta, database_url, org_id) == [sealed]
    shown = karta("byok", "list", "--org", org_id, "--database-url", database_url)[1]
    assert "…wxyz" in shown
    assert SECRET not in shown


def test_a_rotation_shreds_the_old_one(
    karta: Karta, database_url: str, org_id: str, sealed: Document, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text("sk-ant-9876543210-abcd\n")
    code, out, _ = karta(
        *("byok", "rotate", sealed["credential_id"], "--secret-file", tmp_path / "key"),
        *("--json", "--database-url", database_url),
    )
    assert code == 0
    new = json.loads(out)
    assert new["last_four"] == "abcd"
    states = {
        found["last_four"]: found["revoked_at"] is None for found in listed(karta, database_url, org_id)
    }
    assert states["abcd"] is True


def test_a_revoked_one_says_so(karta: Karta, database_url: str, org_id: str, sealed: Document) -> None:
    code, out, _ = karta("byok", "revoke", sealed["credential_id"], "--database-url", database_url)
    assert code == 0
    assert out.strip().endswith("is shredded.")
    assert listed(karta, database_url, org_id)[0]["revoked_at"] is not None


def test_an_empty_list_says_what_to_do(karta: Karta, database_url: str, org_id: str) -> None:
    assert "karta byok set" in karta("byok", "list", "--org", org_id, "--database-url", database_url)[1]


def test_the_free_plan_is_refused(
    karta: Karta, database_url: str, org_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    karta("org", "set-plan", "--org", org_id, "free", "--database-url", database_url)
    give_stdin(monkeypatch, SECRET)
    code, _, err = karta(
        "byok", "set", "--org", org_id, "--provider", "openai", "--database-url", database_url
    )
    assert (code, err.count("\n")) == (1, 1)
    assert SECRET not in err


def test_an_unknown_provider_is_refused_before_the_secret_is_read(
    karta: Karta, database_url: str, org_id: str
) -> None:
    arguments = ("--org", org_id, "--provider", "anthropc", "--database-url", database_url)
    code, _, err = karta("byok", "set", *arguments)
    assert code == 1
    assert "is not one of anthropic, " in err


def test_without_a_master_key_it_says_so(
    karta: Karta, database_url: str, org_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KARTA_MASTER_KEYS")
    arguments = ("--org", org_id, "--provider", "anthropic", "--database-url", database_url)
    code, _, err = karta("byok", "set", *arguments)
    assert code == 1
    assert "set KARTA_MASTER_KEYS" in err


def test_no_option_takes_a_secret(karta: Karta) -> None:
    for action in ("set", "rotate"):
        options = karta("byok", action, "--help")[1]
        assert "--secret-file FILE" in options
        assert "--secret " not in options

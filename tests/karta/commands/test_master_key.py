"""`karta master-key generate | rotate`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from storage.sealing import MasterKeys
from tests.karta.conftest import Karta


def test_what_it_prints_can_be_used(karta: Karta) -> None:
    code, out, _ = karta("master-key", "generate")
    assert code == 0
    assert MasterKeys.parse(out).primary_version == 1
    out = karta("master-key", "generate", "--version", "7", "--json")[1]
    assert MasterKeys.parse(json.loads(out)["master_key"]).primary_version == 7


def test_each_is_new(karta: Karta) -> None:
    assert karta("master-key", "generate")[1] != karta("master-key", "generate")[1]


def test_a_version_is_a_number_from_1_up(karta: Karta) -> None:
    assert karta("master-key", "generate", "--version", "0")[0] == 2


def test_a_rotation_moves_what_is_sealed(
    karta: Karta, database_url: str, org_id: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first, second = MasterKeys.generate(1), MasterKeys.generate(2)
    monkeypatch.setenv("KARTA_MASTER_KEYS", first)
    (tmp_path / "key.txt").write_text("sk-0123456789-wxyz")
    secret = ("--secret-file", str(tmp_path / "key.txt"))
    where = ("--database-url", database_url)
    assert karta("byok", "set", "--org", org_id, "--provider", "openai", *secret, *where)[0] == 0
    monkeypatch.setenv("KARTA_MASTER_KEYS", second)
    code, out, err = karta("master-key", "rotate", *where)
    assert (code, err.count("\n")) == (1, 1)
    assert "Nothing is left" not in out
    assert "keep the older ones" in err
    monkeypatch.setenv("KARTA_MASTER_KEYS", f"{first},{second}")
    code, out, _ = karta("master-key", "rotate", "--json", *where)
    assert code == 0
    assert json.loads(out) == {
        "version": 2,
        "credentials": 1,
        "webhook_secrets": 0,
        "totp_secrets": 0,
        "messages": 0,
        "signing_keys": 0,
        "unopened": 0,
    }
    told = karta("master-key", "rotate", *where)[1]
    assert told.startswith("Moved under master key 2: 0 provider keys")
    assert told.endswith("Nothing is left under an older one.\n")
    monkeypatch.delenv("KARTA_MASTER_KEYS")
    assert "no master key" in karta("master-key", "rotate", *where)[2]

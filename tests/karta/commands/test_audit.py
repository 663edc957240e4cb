"""`karta audit …` on a real database."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from storage.bridge import open_database
from storage.sealing import MasterKeys
from tests.karta.conftest import Karta
from tests.storage.test_audit import tamper
from tests.support.postgres import run_in_own_trio


@pytest.fixture(autouse=True)
def _master_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KARTA_MASTER_KEYS", MasterKeys.generate())


def spoil(database_url: str, sql: str) -> None:
    async def run() -> None:
        async with open_database(database_url, role=None) as db:
            await tamper(db, sql)

    run_in_own_trio(run)


def test_verify_says_what_is_well_and_names_what_is_not(karta: Karta, database_url: str, org_id: str) -> None:
    at = ("--database-url", database_url)
    code, out, err = karta("audit", "verify", *at)
    assert (code, err) == (0, "")
    assert out.startswith("Intact: 1 rows in 1 chain, ")
    assert karta("keys", "mint", "--org", org_id, "--name", "k", *at)[0] == 0
    code, out, _ = karta("audit", "verify", "--org", org_id, "--json", *at)
    assert json.loads(out) == {"intact": True, "chains": 1, "rows": 2, "checkpoints": 0, "problems": []}
    spoil(database_url, f"UPDATE audit_log SET subject = 'x' WHERE seq = 2 AND org_id = '{org_id}'")
    code, out, err = karta("audit", "verify", "--json", *at)
    assert code == 1
    [problem] = json.loads(out)["problems"]
    assert (problem["org_id"], problem["seq"]) == (org_id, 2)
    assert f"chain {org_id}: row 2 is not as it was written" in err


def test_an_export_is_told_and_proves_itself(
    karta: Karta, database_url: str, org_id: str, tmp_path: Path
) -> None:
    at = ("--database-url", database_url)
    code, out, err = karta("audit", "export", "--org", org_id, "--format", "jsonl", *at)
    assert (code, err) == (0, "")
    events = [json.loads(line)["event"] for line in out.splitlines()]
    assert events == ["organization:created", "audit:exported"]
    file = tmp_path / "log.jsonl"
    file.write_text(out)
    assert karta("audit", "verify", "--file", file)[1] == f"Intact: rows 1 to 2 of {org_id}.\n"
    file.write_text(out.replace("organization:created", "organization:renamed"))
    code, out, err = karta("audit", "verify", "--file", file, "--json")
    assert (code, json.loads(out)["problem"]) == (1, "row 1 is not as it was written")
    code, out, _ = karta("audit", "export", "--org", org_id, "--format", "csv", *at)
    assert out.splitlines()[0].startswith("org_id,seq,created_at,event")
    assert len(out.splitlines()) == 4
    code, out, _ = karta("audit", "export", "--org", org_id, "--format", "jsonl", "--json", *at)
    assert (code, out.count("\n")) == (0, 1)
    rows = json.loads(out)["rows"]
    assert [row["seq"] for row in rows] == [1, 2, 3, 4]
    assert (rows[-1]["event"], rows[-1]["details"]) == ("audit:exported", {"format": "json"})
    code, _, err = karta("audit", "export", "--org", org_id, "--json", "--format", "csv", *at)
    assert (code, err.count("\n")) == (2, 1)


def test_an_export_as_one_document_goes_over_batches(
    karta: Karta, database_url: str, org_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.audit_search.BATCH_ROWS", 1)
    code, out, _ = karta("audit", "export", "--org", org_id, "--json", "--database-url", database_url)
    assert code == 0
    assert [row["seq"] for row in json.loads(out)["rows"]] == [1, 2]


def test_checkpoints_that_were_kept_show_what_is_gone(
    karta: Karta, database_url: str, org_id: str, tmp_path: Path
) -> None:
    at = ("--database-url", database_url)
    assert karta("audit", "keys", *at)[1].startswith("None yet")
    code, out, err = karta("audit", "checkpoint", *at)
    assert (code, err) == (0, "")
    kept = tmp_path / "kept.jsonl"
    kept.write_text(out)
    assert org_id in [json.loads(line)["org_id"] for line in out.splitlines()]
    code, out, _ = karta("audit", "keys", "--json", *at)
    assert len(json.loads(out)["keys"]) == 1
    assert karta("audit", "verify", "--against", kept, *at)[0] == 0
    spoil(
        database_url,
        "ALTER TABLE audit_checkpoints DISABLE TRIGGER ALL; DELETE FROM audit_checkpoints;"
        f" DELETE FROM audit_log WHERE org_id = '{org_id}';"
        f" DELETE FROM audit_heads WHERE org_id = '{org_id}'",
    )
    assert karta("audit", "verify", *at)[0] == 0
    code, _, err = karta("audit", "verify", "--against", kept, *at)
    assert code == 1
    assert f"chain {org_id}: the newest rows are missing" in err


def test_retention(karta: Karta, database_url: str, org_id: str) -> None:
    at = ("--database-url", database_url)
    assert karta("audit", "retention", *at)[1] == "Nothing is that old.\n"
    code, _, err = karta("audit", "retention", "--days", "364", *at)
    assert code == 1
    assert "365 days at least" in err


def test_what_cannot_be_read(karta: Karta, tmp_path: Path, database_url: str) -> None:
    at = ("--database-url", database_url)
    (tmp_path / "x").write_text("{}\n")
    (tmp_path / "latin").write_bytes(b'{"org_id": "\xe9"}\n')
    for option in ("--against", "--file"):
        for name in ("none", "x", "latin"):
            code, _, err = karta("audit", "verify", option, tmp_path / name, *at)
            assert (code, err.count("\n")) == (1, 1)
    assert karta("audit", "verify", "--org", "nobody", *at)[0] == 2


def test_signing_needs_the_master_keys(
    karta: Karta, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KARTA_MASTER_KEYS")
    code, _, err = karta("audit", "checkpoint", "--database-url", database_url)
    assert code == 1
    assert "KARTA_MASTER_KEYS" in err

"""`karta keys …` on a real database."""

from __future__ import annotations

import json

import pytest

from karta.commands import keys
from storage import key_format
from tests.karta.conftest import Document, Karta
from tests.storage.key_trouble import FAILS, LOSES_THE_LINE, trouble_from
from tests.support.postgres import PostgresServer


@pytest.fixture
def mint(karta: Karta, database_url: str, org_id: str) -> Document:
    code, out, _ = karta(
        "keys", "mint", "--org", org_id, "--name", "CI", "--json", "--database-url", database_url
    )
    assert code == 0
    minted: Document = json.loads(out)
    return minted


def listed(karta: Karta, database_url: str, org_id: str) -> list[Document]:
    code, out, _ = karta("keys", "list", "--org", org_id, "--json", "--database-url", database_url)
    assert code == 0
    found: list[Document] = json.loads(out)["keys"]
    return found


def test_a_key_is_minted_and_shown_once(karta: Karta, database_url: str, org_id: str, mint: Document) -> None:
    parsed = key_format.parse(mint["key"].encode())
    assert parsed is not None
    assert parsed.key_id == mint["key_id"]
    (key,) = listed(karta, database_url, org_id)
    assert key == {name: value for name, value in mint.items() if name != "key"}
    assert (key["name"], key["mode"], key["last_four"]) == ("CI", "live", mint["key"][-4:])


def test_a_key_is_minted_with_a_scope(karta: Karta, database_url: str, org_id: str) -> None:
    scope = ["--model", "m", "--endpoint", "messages", "--endpoint", "chat", "--network", "192.0.2.0/24"]
    arguments = ("--org", org_id, "--name", "k", *scope, "--json", "--database-url", database_url)
    code, out, _ = karta("keys", "mint", *arguments)
    assert code == 0
    minted = json.loads(out)
    assert (minted["allowed_models"], minted["allowed_endpoints"]) == (["m"], ["messages", "chat"])
    assert minted["allowed_networks"] == ["192.0.2.0/24"]
    code, _, err = karta("keys", "mint", *arguments, "--network", "192.0.2.1/24")
    assert code == 1
    assert "write networks like" in err


def test_for_people_only_the_key_is_on_stdout(karta: Karta, database_url: str, org_id: str) -> None:
    arguments = ("--org", org_id, "--name", "T", "--test", "--database-url", database_url)
    code, out, err = karta("keys", "mint", *arguments)
    assert code == 0
    assert out.startswith("kt_test_")
    assert out.count("\n") == 1
    assert out.strip() not in err


def test_a_rotation_ends_the_old_one(karta: Karta, database_url: str, org_id: str, mint: Document) -> None:
    arguments = ("--overlap", "60", "--json", "--database-url", database_url)
    code, out, _ = karta("keys", "rotate", mint["key_id"], *arguments)
    assert code == 0
    new = json.loads(out)
    assert new["name"] == "CI"
    old, kept = listed(karta, database_url, org_id)
    assert old["key_id"] == mint["key_id"]
    assert old["expires_at"] is not None
    assert kept["key_id"] == new["key_id"]


def test_a_revoked_key_says_so(karta: Karta, database_url: str, org_id: str, mint: Document) -> None:
    code, out, _ = karta("keys", "revoke", mint["key_id"], "--json", "--database-url", database_url)
    assert code == 0
    assert json.loads(out)["revoked_at"] is not None
    shown = karta("keys", "list", "--org", org_id, "--database-url", database_url)[1]
    assert "revoked 20" in shown
    assert mint["key"] not in shown


def test_a_list_goes_over_several_pages(
    karta: Karta, database_url: str, org_id: str, mint: Document, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "PAGE_KEYS_MAX", 1)
    karta("keys", "mint", "--org", org_id, "--name", "second", "--database-url", database_url)
    assert [key["name"] for key in listed(karta, database_url, org_id)] == ["CI", "second"]


def test_an_empty_list_says_what_to_do(karta: Karta, database_url: str, org_id: str) -> None:
    assert listed(karta, database_url, org_id) == []
    assert "karta keys mint" in karta("keys", "list", "--org", org_id, "--database-url", database_url)[1]


@pytest.mark.parametrize(
    "arguments", [("revoke", "unknownkey12"), ("rotate", "unknownkey12"), ("list", "--org", "0" * 32)]
)
def test_what_is_not_there_is_one_clear_line(
    karta: Karta, database_url: str, arguments: tuple[str, ...]
) -> None:
    code, out, err = karta("keys", *arguments, "--database-url", database_url)
    assert (code, out, err.count("\n")) == (1, "", 1)


@pytest.mark.parametrize("overlap", ["-1", "soon", "9999999999"])
def test_an_overlap_is_a_number_of_seconds(karta: Karta, overlap: str) -> None:
    assert karta("keys", "rotate", "x", "--overlap", overlap)[0] == 2


@pytest.mark.usefixtures("mint")
def test_the_audit_log_names_the_command_lines_user(
    postgres_server: PostgresServer, database_name: str
) -> None:
    kinds = postgres_server.sql("SELECT DISTINCT actor_kind FROM audit_log", database_name)
    assert kinds == "cli"


def test_many_keys_are_minted_at_once(karta: Karta, database_url: str, org_id: str) -> None:
    arguments = ("--org", org_id, "--name", "load", "--count", "3", "--database-url", database_url)
    code, out, _ = karta("keys", "mint", *arguments, "--json")
    assert code == 0
    minted = json.loads(out)["keys"]
    assert len({key["key"] for key in minted}) == 3
    assert {key["key_id"] for key in minted} == {key["key_id"] for key in listed(karta, database_url, org_id)}
    code, out, _ = karta("keys", "mint", *arguments)
    assert code == 0
    assert [line[:8] for line in out.splitlines()] == ["kt_live_"] * 3
    assert out.count("\n") == 3
    code, _, err = karta("keys", "mint", "--org", org_id, "--name", "load", "--count", "0")
    assert code == 2
    assert "1 to 10000" in err


@pytest.mark.parametrize(
    ("trouble", "shown", "told"),
    [
        (FAILS, 2, "there is a fault (SQLSTATE P0001); 2 of 5 keys are shown"),
        (LOSES_THE_LINE, 4, "4 of 5 keys are shown, the last of which may not be there"),
    ],
)
@pytest.mark.parametrize("form", ["--json", None])
def test_what_was_minted_before_a_failure_is_shown(
    karta: Karta,
    database_url: str,
    org_id: str,
    postgres_server: PostgresServer,
    database_name: str,
    monkeypatch: pytest.MonkeyPatch,
    trouble: str,
    shown: int,
    told: str,
    form: str | None,
) -> None:
    monkeypatch.setattr("storage.key_batches.BATCH_KEYS_MAX", 2)
    postgres_server.sql(trouble_from(3, trouble), database_name)
    arguments = ("--org", org_id, "--name", "load", "--count", "5", "--database-url", database_url)
    code, out, err = karta("keys", "mint", *arguments, *([form] if form else []))
    assert code == 1
    assert err.endswith(f"{told}\n")
    tokens = [key["key"] for key in json.loads(out)["keys"]] if form else out.splitlines()
    assert len(set(tokens)) == shown
    parsed = [key_format.parse(token.encode()) for token in tokens[:2]]
    assert {one.key_id for one in parsed if one} == {
        key["key_id"] for key in listed(karta, database_url, org_id)
    }

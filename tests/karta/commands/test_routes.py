"""`karta routes …` on a real database."""

from __future__ import annotations

import json

import pytest

from tests.karta.conftest import Document, Karta


def run(karta: Karta, database_url: str, *arguments: object) -> list[Document]:
    code, out, err = karta("routes", *arguments, "--json", "--database-url", database_url)
    assert code == 0, err
    found: list[Document] = json.loads(out)["routes"]
    return found


def test_set_replace_list_remove(karta: Karta, database_url: str, org_id: str) -> None:
    org = ("--org", org_id, "--alias", "smart")
    listed = karta("routes", "list", "--org", org_id, "--database-url", database_url)[1]
    assert listed.startswith("No routes. Set one: karta routes set")
    run(karta, database_url, "set", *org, "--target", "openai/gpt-5")
    (told,) = run(
        karta,
        database_url,
        "set",
        *org,
        "--target",
        "openai/gpt-5,weight=3,first-byte-seconds=2.5",
        "--target",
        "openrouter/openai/gpt-5@2026,credential=byok",
    )
    assert told == {
        "alias": "smart",
        "targets": [
            {
                "provider": "openai",
                "model": "gpt-5",
                "weight": 3,
                "credential": None,
                "first_byte_seconds": 2.5,
            },
            {
                "provider": "openrouter",
                "model": "openai/gpt-5@2026",
                "weight": None,
                "credential": "byok",
                "first_byte_seconds": None,
            },
        ],
    }
    assert run(karta, database_url, "list", "--org", org_id) == [told]
    shown = karta("routes", "list", "--org", org_id, "--database-url", database_url)[1]
    assert "openai/gpt-5@2026" in shown
    assert "2.5" in shown
    assert run(karta, database_url, "remove", *org) == [told]
    assert run(karta, database_url, "list", "--org", org_id) == []
    run(karta, database_url, "set", *org, "--target", "openai/gpt-5")
    code, out, _ = karta("routes", "remove", *org, "--database-url", database_url)
    assert (code, "smart is a model's name" in out) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("set", "--org", "{org}", "--alias", "a"), 2, "--target"),
        (("set", "--org", "{org}", "--alias", "a", "--target", "openai"), 2, "PROVIDER/MODEL"),
        (("set", "--org", "{org}", "--alias", "a", "--target", "openai/"), 2, "PROVIDER/MODEL"),
        (("set", "--org", "{org}", "--alias", "a", "--target", "opnai/x"), 1, "is not one of anthropic"),
        (("set", "--org", "{org}", "--alias", "a", "--target", "openai/x,weight=0"), 2, "weight=0"),
        (
            ("set", "--org", "{org}", "--alias", "a", "--target", "openai/x,credential=simulated"),
            2,
            "none of",
        ),
        (("set", "--org", "{org}", "--alias", "a", "--target", "openai/x,first-byte-seconds=0"), 1, ""),
        (("set", "--org", "{org}", "--alias", "a", "--target", "openai/x,retries=2"), 2, "retries=2"),
        (("set", "--org", "{none}", "--alias", "a", "--target", "openai/x"), 1, "no organization"),
        (("list", "--org", "{none}"), 1, "no organization"),
        (("remove", "--org", "{org}", "--alias", "a"), 1, "no route of that name"),
    ],
)
def test_wrong_calls(
    karta: Karta, database_url: str, org_id: str, arguments: tuple[str, ...], code: int, told: str
) -> None:
    nobody = "00000000-0000-0000-0000-000000000000"
    given = [argument.replace("{org}", org_id).replace("{none}", nobody) for argument in arguments]
    found, _, err = karta("routes", *given, "--database-url", database_url)
    assert found == code
    assert told in err

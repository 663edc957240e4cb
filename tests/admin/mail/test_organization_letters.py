from __future__ import annotations

from admin.mail.content import Details, Link
from admin.mail.organization_letters import LETTERS
from storage.letter_kinds import LetterKind
from storage.outbox import Facts
from tests.admin.mail.examples import FACTS


def rows(kind: LetterKind, **other: str | int) -> dict[str, str]:
    content = LETTERS[kind]({**FACTS[kind], **other})
    return dict(row for block in content.blocks if isinstance(block, Details) for row in block.rows)


def path(kind: LetterKind, facts: Facts) -> str:
    (found,) = (block.path for block in LETTERS[kind](facts).blocks if isinstance(block, Link))
    return found


def test_a_key_is_told_without_its_secret() -> None:
    told = rows(LetterKind.KEY_MINTED, name="CI")
    assert told == {
        "Name": "CI",
        "Key": "kt_live_3kTMd92jBxQa…9xYz",
        "By": "ada@\u2060example.\u2060com",
        "When": "26 Nov 2026, 02:30 UTC",
    }
    assert rows(LetterKind.KEY_MINTED, by="root", by_kind="cli")["By"] == "the command line, as root"
    successor = LETTERS[LetterKind.KEY_MINTED]({**FACTS[LetterKind.KEY_MINTED], "successor_of": "old"})
    assert "rotated" in successor.subject


def test_a_budget_is_of_a_key_or_of_all() -> None:
    kind = LetterKind.BUDGET_REACHED
    told = rows(kind, key_name="CI")
    assert (told["For"], told["Used"], told["Budget"]) == ("Key “CI”", "$10.10", "$10.00 a month")
    assert path(kind, FACTS[kind]).endswith("/keys/3kTMd92jBxQa/limits")
    all_keys = {**FACTS[kind], "key_id": "", "key_name": ""}
    assert rows(kind, key_id="", key_name="")["For"] == "All keys together"
    assert path(kind, all_keys).endswith("/limits")


def test_a_payment_that_failed_and_those_that_are_tried_no_more() -> None:
    kind = LetterKind.PAYMENT_FAILED
    assert rows(kind, organization="Acme") == {
        "Organization": "Acme",
        "Invoice": "KARTA-0001",
        "Due": "$49.00",
    }
    assert rows(kind, organization="Acme", invoice="", currency="jpy") == {"Organization": "Acme"}
    assert "tried again" in str(LETTERS[kind](FACTS[kind]))
    over = str(LETTERS[kind]({**FACTS[kind], "state": "unpaid"}))
    assert "Free plan now" in over


def test_an_endpoint_is_off_for_one_of_two_causes() -> None:
    kind = LetterKind.WEBHOOK_OFF
    said = {cause: str(LETTERS[kind]({**FACTS[kind], "cause": cause})) for cause in ("failing", "gone")}
    assert "last 5 days failed" in said["failing"]
    assert "410 Gone" in said["gone"]

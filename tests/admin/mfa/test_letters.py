from __future__ import annotations

from admin.mfa import letters

LINK = "https://admin.example.com/account"


def test_letters_say_what_happened_and_where_to_go() -> None:
    written = [
        letters.factor_added("a@b.example", "A passkey", LINK),
        letters.factor_removed("a@b.example", "A passkey", LINK),
        letters.recovery_code_used("a@b.example", LINK),
    ]
    assert len({letter.kind for letter in written}) == 3
    for letter in written:
        assert letter.text.count(LINK) == 1
        assert letter.recipient == "a@b.example"

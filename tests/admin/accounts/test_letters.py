from __future__ import annotations

import pytest

from admin.accounts import letters

LINK = "https://admin.example.com/link/x/y"
WRITTEN = [
    letters.sign_up("a@b.example", LINK),
    letters.already_signed_up("a@b.example", LINK),
    letters.reset_password("a@b.example", LINK),
    letters.password_changed("a@b.example", LINK),
    letters.change_email("a@b.example", LINK),
    letters.email_taken("a@b.example"),
    letters.email_changed("a@b.example", "new@b.example"),
    letters.account_deleted("a@b.example"),
]


@pytest.mark.parametrize("letter", WRITTEN, ids=lambda letter: letter.kind)
def test_a_letter_is_short_and_has_one_link_at_most(letter: letters.Letter) -> None:
    assert letter.recipient == "a@b.example"
    assert 10 < len(letter.subject) < 70
    assert letter.text.count("https://") <= 1
    assert len(letter.text) < 600


def test_kinds_differ() -> None:
    assert len({letter.kind for letter in WRITTEN}) == len(WRITTEN)

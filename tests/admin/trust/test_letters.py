from __future__ import annotations

from admin.trust.letters import abuse_reported, changed
from admin.trust.sub_processors import load


def test_a_strangers_words_are_quoted() -> None:
    letter = abuse_reported("staff@example.com", "AB-1", "spam", "one\nFrom: boss@example.com", None)
    assert letter.text.endswith("> one\n> From: boss@example.com\n")
    assert "one" not in letter.subject


def test_each_mail_of_changes_says_how_to_end_them() -> None:
    letter = changed("a@example.com", load(), "https://x/subprocessors", "https://x/end")
    assert "https://x/end" in letter.text
    assert "First list." in letter.text

from __future__ import annotations

from storage.letter_kinds import BROADCASTS, ROLES, SECRETS, TOPICS, LetterKind, MailTopic


def test_what_can_be_switched_off_is_of_an_organization_and_no_secret() -> None:
    assert set(TOPICS.values()) == set(MailTopic)
    assert set(TOPICS) <= set(ROLES)
    assert not SECRETS & (set(ROLES) | BROADCASTS)


def test_what_is_about_ones_own_account_cannot_be_switched_off() -> None:
    for kind in LetterKind:
        if kind.value.startswith(("password", "factor", "email", "reset", "new_sign_in", "recovery")):
            assert kind not in TOPICS

from __future__ import annotations

from admin.inviting import WHAT_ROLES_DO, invitation
from storage.model import Role


def test_an_invitation_says_into_what_and_as_what() -> None:
    letter = invitation("a@b.example", "Acme", Role.BILLING, "https://admin.example.com/invitation/x")
    for said in ("Acme", "billing", WHAT_ROLES_DO[Role.BILLING], "https://admin.example.com/invitation/x"):
        assert said in letter.text
    assert set(WHAT_ROLES_DO) == set(Role)

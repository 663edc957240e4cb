"""The mails about second factors."""

from __future__ import annotations

from storage.outbox import Letter


def factor_added(recipient: str, what: str, account_link: str) -> Letter:
    return Letter(
        kind="factor_added",
        recipient=recipient,
        subject="A second factor was added to your Karta account",
        text=f"{what} was added to your account, and your other sessions were ended.\n\n"
        f"If it was not you, remove it and change your password at once:\n\n{account_link}\n\nKarta\n",
    )


def factor_removed(recipient: str, what: str, account_link: str) -> Letter:
    return Letter(
        kind="factor_removed",
        recipient=recipient,
        subject="A second factor was removed from your Karta account",
        text=f"{what} was removed from your account, and your other sessions were ended.\n\n"
        f"If it was not you, change your password at once:\n\n{account_link}\n\nKarta\n",
    )


def recovery_code_used(recipient: str, account_link: str) -> Letter:
    return Letter(
        kind="recovery_code_used",
        recipient=recipient,
        subject="A recovery code was used for your Karta account",
        text="Somebody signed in to your account with a recovery code, which is spent now.\n\n"
        f"If it was not you, change your password at once:\n\n{account_link}\n\nKarta\n",
    )

"""The mails about accounts. Plain text, what happened and what to do, one link at most.

Links name the configured origin, never what a request said its host was.
"""

from __future__ import annotations

from storage.outbox import Letter

_FOOT = "\n\nKarta\n"


def sign_up(recipient: str, link: str) -> Letter:
    return Letter(
        kind="sign_up",
        recipient=recipient,
        subject="Finish signing up to Karta",
        text=f"Follow this link to choose a password and finish signing up:\n\n{link}\n\n"
        "It works once, for 24 hours. If it was not you who asked, do nothing: no account is made." + _FOOT,
    )


def already_signed_up(recipient: str, sign_in_link: str) -> Letter:
    return Letter(
        kind="already_signed_up",
        recipient=recipient,
        subject="You already have a Karta account",
        text="Somebody, most likely you, asked to sign up with this address, which has an account already."
        f"\n\nSign in, or set a new password, here:\n\n{sign_in_link}\n\n"
        "If it was not you who asked, do nothing." + _FOOT,
    )


def reset_password(recipient: str, link: str) -> Letter:
    return Letter(
        kind="reset_password",
        recipient=recipient,
        subject="Set a new Karta password",
        text=f"Follow this link to set a new password:\n\n{link}\n\n"
        "It works once, for 30 minutes. If it was not you who asked, do nothing: your password stays."
        + _FOOT,
    )


def password_changed(recipient: str, reset_link: str) -> Letter:
    return Letter(
        kind="password_changed",
        recipient=recipient,
        subject="Your Karta password was changed",
        text="Your password was changed, and your other sessions were ended.\n\n"
        f"If it was not you, set a new one at once:\n\n{reset_link}" + _FOOT,
    )


def change_email(recipient: str, link: str) -> Letter:
    return Letter(
        kind="change_email",
        recipient=recipient,
        subject="Confirm your new address for Karta",
        text=f"Follow this link to use this address for your Karta account:\n\n{link}\n\n"
        "It works once, for 2 hours. If it was not you who asked, do nothing." + _FOOT,
    )


def email_taken(recipient: str) -> Letter:
    return Letter(
        kind="email_taken",
        recipient=recipient,
        subject="Your address was named for another Karta account",
        text="Somebody asked to use this address for another Karta account. It has an account of its own "
        "already, so nothing was changed." + _FOOT,
    )


def email_changed(recipient: str, new_email: str) -> Letter:
    return Letter(
        kind="email_changed",
        recipient=recipient,
        subject="The address of your Karta account was changed",
        text=f"Your Karta account now uses {new_email}. This address is no longer used.\n\n"
        "If it was not you, answer the operators of this Karta at once." + _FOOT,
    )


def account_deleted(recipient: str) -> Letter:
    return Letter(
        kind="account_deleted",
        recipient=recipient,
        subject="Your Karta account was deleted",
        text="Your account was deleted as you asked, and all of its sessions were ended." + _FOOT,
    )

"""What is written to a person about their account. None of it can be switched off."""

from __future__ import annotations

from admin.mail.content import Content, Details, Link, Paragraph, line, minute, name
from storage.letter_kinds import LetterKind
from storage.outbox import Facts

_OWN = (
    "You get this because it is about the security of your Karta account. "
    "Such letters cannot be switched off."
)
_ASKED = "You get this because somebody gave this address to Karta."
_ACCOUNT = Link("/account", "Look at your account")


def sign_up(facts: Facts) -> Content:
    return Content(
        subject="Finish signing up to Karta",
        blocks=(
            Paragraph("Follow this link to choose a password and finish signing up:"),
            Link(str(facts["path"]), "Finish signing up"),
            Paragraph(
                "It works once, for 24 hours. If it was not you who asked, do nothing: no account is made."
            ),
        ),
        why=_ASKED,
    )


def already_signed_up(_: Facts) -> Content:
    return Content(
        subject="You already have a Karta account",
        blocks=(
            Paragraph(
                "Somebody, most likely you, asked to sign up with this address, which has an account already."
                " Sign in, or set a new password, here:"
            ),
            Link("/sign-in", "Sign in"),
            Paragraph("If it was not you who asked, do nothing."),
        ),
        why=_ASKED,
    )


def reset_password(facts: Facts) -> Content:
    return Content(
        subject="Set a new Karta password",
        blocks=(
            Paragraph("Follow this link to set a new password:"),
            Link(str(facts["path"]), "Set a new password"),
            Paragraph(
                "It works once, for 30 minutes. If it was not you who asked, do nothing: your password stays."
            ),
        ),
        why=_ASKED,
    )


def password_changed(_: Facts) -> Content:
    return Content(
        subject="Your Karta password was changed",
        blocks=(
            Paragraph("Your password was changed, and your other sessions were ended."),
            Paragraph("If it was not you, set a new one at once:"),
            Link("/forgot-password", "Set a new password"),
        ),
        why=_OWN,
    )


def change_email(facts: Facts) -> Content:
    return Content(
        subject="Confirm your new address for Karta",
        blocks=(
            Paragraph("Follow this link to use this address for your Karta account:"),
            Link(str(facts["path"]), "Use this address"),
            Paragraph("It works once, for 2 hours. If it was not you who asked, do nothing."),
        ),
        why=_ASKED,
    )


def email_taken(_: Facts) -> Content:
    return Content(
        subject="Your address was named for another Karta account",
        blocks=(
            Paragraph(
                "Somebody asked to use this address for another Karta account. It has an account of its own"
                " already, so nothing was changed."
            ),
        ),
        why=_OWN,
    )


def email_changed(facts: Facts) -> Content:
    return Content(
        subject="The address of your Karta account was changed",
        blocks=(
            Paragraph(
                f"Your Karta account now uses {name(facts['new_email'])}. This address is no longer used."
            ),
            Paragraph("If it was not you, answer the operators of this Karta at once."),
        ),
        why=_OWN,
    )


def account_deleted(_: Facts) -> Content:
    return Content(
        subject="Your Karta account was deleted",
        blocks=(Paragraph("Your account was deleted as you asked, and all of its sessions were ended."),),
        why=_OWN,
    )


def new_sign_in(facts: Facts) -> Content:
    return Content(
        subject="A new sign-in to your Karta account",
        blocks=(
            Paragraph("Somebody signed in to your account from where nobody has before:"),
            Details(
                (
                    ("Browser", name(facts["browser"])),
                    ("Address", line(facts["address"])),
                    ("When", minute(facts["at"])),
                )
            ),
            Paragraph(
                "If it was you, do nothing. If not, end that session and change your password at once:"
            ),
            _ACCOUNT,
        ),
        why=_OWN,
    )


def factor_added(facts: Facts) -> Content:
    return Content(
        subject="A second factor was added to your Karta account",
        blocks=(
            Paragraph(
                f"{line(facts['what'])} was added to your account, and your other sessions were ended."
            ),
            Paragraph("If it was not you, remove it and change your password at once:"),
            _ACCOUNT,
        ),
        why=_OWN,
    )


def factor_removed(facts: Facts) -> Content:
    return Content(
        subject="A second factor was removed from your Karta account",
        blocks=(
            Paragraph(
                f"{line(facts['what'])} was removed from your account, and your other sessions were ended."
            ),
            Paragraph("If it was not you, change your password at once:"),
            _ACCOUNT,
        ),
        why=_OWN,
    )


def recovery_code_used(_: Facts) -> Content:
    return Content(
        subject="A recovery code was used for your Karta account",
        blocks=(
            Paragraph("Somebody signed in to your account with a recovery code, which is spent now."),
            Paragraph("If it was not you, change your password at once:"),
            _ACCOUNT,
        ),
        why=_OWN,
    )


LETTERS = {
    LetterKind.SIGN_UP: sign_up,
    LetterKind.ALREADY_SIGNED_UP: already_signed_up,
    LetterKind.RESET_PASSWORD: reset_password,
    LetterKind.PASSWORD_CHANGED: password_changed,
    LetterKind.CHANGE_EMAIL: change_email,
    LetterKind.EMAIL_TAKEN: email_taken,
    LetterKind.EMAIL_CHANGED: email_changed,
    LetterKind.ACCOUNT_DELETED: account_deleted,
    LetterKind.NEW_SIGN_IN: new_sign_in,
    LetterKind.FACTOR_ADDED: factor_added,
    LetterKind.FACTOR_REMOVED: factor_removed,
    LetterKind.RECOVERY_CODE_USED: recovery_code_used,
}

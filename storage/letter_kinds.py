"""The letters that Karta writes, as data: what each is called, who gets it, and whether it can be switched
off.

How a letter reads is the control plane's business (`admin.mail`). What causes it writes its facts, here or in
the database, in the transaction that changes something."""

from __future__ import annotations

from enum import StrEnum

from storage.model import Role


class LetterKind(StrEnum):
    """Never rename or reuse one: messages that wait keep theirs."""

    SIGN_UP = "sign_up"
    ALREADY_SIGNED_UP = "already_signed_up"
    RESET_PASSWORD = "reset_password"  # noqa: S105 - names a letter
    PASSWORD_CHANGED = "password_changed"  # noqa: S105
    CHANGE_EMAIL = "change_email"
    EMAIL_TAKEN = "email_taken"
    EMAIL_CHANGED = "email_changed"
    ACCOUNT_DELETED = "account_deleted"
    NEW_SIGN_IN = "new_sign_in"
    FACTOR_ADDED = "factor_added"
    FACTOR_REMOVED = "factor_removed"
    RECOVERY_CODE_USED = "recovery_code_used"
    INVITATION = "invitation"
    KEY_MINTED = "key_minted"
    BUDGET_REACHED = "budget_reached"
    """Written by the database itself (the migration named `mail`), where usage is accounted for."""
    PAYMENT_FAILED = "payment_failed"
    WEBHOOK_OFF = "webhook_off"
    ABUSE_REPORTED = "abuse_reported"
    SUBSCRIPTION_CONFIRM = "subscription_confirm"
    SUB_PROCESSORS_CHANGED = "sub_processors_changed"
    INCIDENT = "incident"


class MailTopic(StrEnum):
    """What a person may do without. Letters of no topic are about somebody's own account, or their money."""

    KEYS = "keys"
    BUDGETS = "budgets"
    WEBHOOKS = "webhooks"


TOPICS = {
    LetterKind.KEY_MINTED: MailTopic.KEYS,
    LetterKind.BUDGET_REACHED: MailTopic.BUDGETS,
    LetterKind.WEBHOOK_OFF: MailTopic.WEBHOOKS,
}
"""Of the letters that can be switched off."""
ROLES = {
    LetterKind.KEY_MINTED: (Role.OWNER, Role.ADMIN),
    LetterKind.BUDGET_REACHED: (Role.OWNER, Role.ADMIN, Role.BILLING),
    LetterKind.PAYMENT_FAILED: (Role.OWNER, Role.BILLING),
    LetterKind.WEBHOOK_OFF: (Role.OWNER, Role.ADMIN),
}
"""Which members get the letters that are for an organization."""
BROADCASTS = frozenset({LetterKind.SUB_PROCESSORS_CHANGED, LetterKind.INCIDENT})
"""Sent to many alike, who asked for it. Postmark wants them apart from the rest."""
SECRETS = frozenset(
    {
        LetterKind.SIGN_UP,
        LetterKind.RESET_PASSWORD,
        LetterKind.CHANGE_EMAIL,
        LetterKind.INVITATION,
        LetterKind.SUBSCRIPTION_CONFIRM,
    }
)
"""Letters with a link that opens something: they are kept sealed."""

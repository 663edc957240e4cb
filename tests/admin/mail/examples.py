"""A letter of each kind, with the worst that strangers may have written where they may write."""

from __future__ import annotations

from storage.letter_kinds import LetterKind
from storage.outbox import Facts, Letter

ORIGIN = "https://admin.example.com"
EVIL = (
    "Acme <img src=x onerror=alert(1)> \"' {{ 7*7 }} http://evil.example/login\r\nBcc: eve@example.com\u202e"
)
ORG_ID = "6fb1c7a2-0d1e-4b07-9f6c-0f0f0f0f0f0f"
SUBSCRIPTION_ID = "0d0d0d0d-0d1e-4b07-9f6c-0f0f0f0f0f0f"
SECRET = "S3cretT0ken_of-the-link"
AT = "2026-11-26T02:30:00+00:00"
OF_ORGANIZATION: Facts = {"organization": EVIL, "org_id": ORG_ID}

FACTS: dict[LetterKind, Facts] = {
    LetterKind.SIGN_UP: {"path": f"/link/sign-up/{SECRET}"},
    LetterKind.ALREADY_SIGNED_UP: {},
    LetterKind.RESET_PASSWORD: {"path": f"/link/reset-password/{SECRET}"},
    LetterKind.PASSWORD_CHANGED: {},
    LetterKind.CHANGE_EMAIL: {"path": f"/link/change-email/{SECRET}"},
    LetterKind.EMAIL_TAKEN: {},
    LetterKind.EMAIL_CHANGED: {"new_email": "new@example.com"},
    LetterKind.ACCOUNT_DELETED: {},
    LetterKind.NEW_SIGN_IN: {"browser": EVIL, "address": "192.0.2.7", "at": AT},
    LetterKind.FACTOR_ADDED: {"what": "A passkey"},
    LetterKind.FACTOR_REMOVED: {"what": "A passkey"},
    LetterKind.RECOVERY_CODE_USED: {},
    LetterKind.INVITATION: {"organization": EVIL, "role": "billing", "path": f"/invitation/{SECRET}"},
    LetterKind.KEY_MINTED: {
        **OF_ORGANIZATION,
        "key_id": "3kTMd92jBxQa",
        "name": EVIL,
        "mode": "live",
        "last_four": "9xYz",
        "successor_of": "",
        "by": "ada@example.com",
        "by_kind": "user",
        "at": AT,
    },
    LetterKind.BUDGET_REACHED: {
        **OF_ORGANIZATION,
        "threshold": 100,
        "settled": "10100000000000",
        "amount": "10000000000000",
        "since": AT,
        "period": "month",
        "key_id": "3kTMd92jBxQa",
        "key_name": EVIL,
    },
    LetterKind.PAYMENT_FAILED: {
        **OF_ORGANIZATION,
        "state": "past_due",
        "invoice": "KARTA-0001",
        "currency": "usd",
        "due": 4900,
    },
    LetterKind.WEBHOOK_OFF: {
        **OF_ORGANIZATION,
        "host": "hooks.example.com",
        "endpoint_id": SUBSCRIPTION_ID,
        "cause": "failing",
        "failing_days": 5,
        "kept_days": 3,
    },
    LetterKind.ABUSE_REPORTED: {
        "reference": "AB-0123456789",
        "category": "spam",
        "report": f"one\nFrom: boss@example.com\n{EVIL}",
        "email": "eve@example.com",
    },
    LetterKind.SUBSCRIPTION_CONFIRM: {"topic": "incidents", "path": f"/status/confirm/{SECRET}"},
    LetterKind.SUB_PROCESSORS_CHANGED: {
        "changes": ["2026-11-01: One was added.", "2026-01-01: First list."],
        "subscription_id": SUBSCRIPTION_ID,
    },
    LetterKind.INCIDENT: {
        "incident_id": "1d1d1d1d-0d1e-4b07-9f6c-0f0f0f0f0f0f",
        "title": EVIL,
        "stage": "investigating",
        "message": f"We look.\n{EVIL}",
        "subscription_id": SUBSCRIPTION_ID,
    },
}
LETTERS = [Letter(kind=kind, recipient="ada@example.com", facts=facts) for kind, facts in FACTS.items()]

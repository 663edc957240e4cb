"""What /security promises, told from what runs: constants of the code and the settings of this process.

Only what is there is told. A promise without code behind it has no row.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit

from admin import throttle, transport
from admin.settings import AdminSettings
from admin.webhooks.safe_address import PORTS
from storage import sessions, totp
from storage.audit_retention import DAYS_DEFAULT, DAYS_MIN
from storage.key_format import COST_MIN
from storage.throttles import Rule


class Promise(NamedTuple):
    area: str
    text: str
    facts: tuple[str, ...] = ()
    """What is so in this very process."""


def promises(settings: AdminSettings) -> list[Promise]:
    proof_minutes = sessions.STEP_UP_SECONDS // 60
    hours, idle_minutes = settings.session_hours, settings.session_idle_minutes
    return [
        Promise(
            "Customer keys",
            "API keys are kept as bcrypt digests only. A key is shown once, as it is made.",
            (f"bcrypt cost of keys and passwords: {COST_MIN}",),
        ),
        Promise(
            "Your own provider keys",
            "Provider keys that you bring (Pro and Enterprise plans) are sealed with AES-256-GCM as they are "
            "stored, under a key of your organization alone. They are opened in the gateway's memory only, "
            "for one request, and never logged. Their last four characters are shown, the whole never. "
            "Rotation is one step, and revoking shreds what was stored.",
        ),
        Promise(
            "Transport",
            "In production everything is HTTPS. Pages allow no script but their own, by a nonce that is new "
            "for each answer, and cannot be framed; browsers report what breaks that policy.",
            (f"Strict-Transport-Security: {transport.HSTS}", f"this server runs in {settings.env}"),
        ),
        Promise(
            "Signing in",
            f"Authenticator apps by RFC 6238 ({totp.STEP_SECONDS} s, each code once), passkeys, and recovery "
            "codes. Owners can require second factors. What is sensitive, such as deleting an organization, "
            "rotating a provider key or exporting the audit log, asks for fresh proof, which lasts for "
            f"{proof_minutes} minutes.",
            (f"sessions end after {hours:g} hours, and after {idle_minutes:g} minutes without use",),
        ),
        Promise(
            "Audit",
            "Every key made or revoked, every sign-in, every change of plan and every passed budget, and "
            "more, is written into a log that only grows: the database refuses to change or remove a row, "
            "each row carries the hash of the one before, and where the log ends is signed. You can search, "
            "export and prove yours.",
            (f"kept for {DAYS_DEFAULT} days by default, never less than {DAYS_MIN}",),
        ),
        Promise(
            "Outgoing webhooks",
            "Messages to your servers are signed, and go over HTTPS alone. The receiver's name is resolved "
            "anew at each delivery; unless all it stands for is public internet, nothing is connected to, "
            "and what was checked is what is connected to. Redirects are not followed.",
            (
                f"ports: {', '.join(map(str, sorted(PORTS)))}",
                f"private networks that are open: {len(settings.webhooks_allowed_networks) or 'none'}",
            ),
        ),
        Promise(
            "Rate limits",
            "Guessing is throttled, by address and by account, for all servers together.",
            (
                _told("signing in", throttle.SIGN_IN_ADDRESS),
                _told("signing up", throttle.SIGN_UP_ADDRESS),
                _told("password reset", throttle.RESET_ADDRESS),
                _told("making keys", throttle.MINT_ACCOUNT, "account"),
                _told("paying", throttle.CHECKOUT_ADDRESS),
            ),
        ),
        *_payments(settings),
        *_told_to_others(settings),
        Promise(
            "Prompts and answers",
            "The gateway passes them on and stores neither. What is kept of a request is what was used: its "
            "time, model, tokens and cost.",
        ),
    ]


def _told_to_others(settings: AdminSettings) -> list[Promise]:
    return [
        Promise(
            "Mail",
            "Confirmations, new passwords, invitations, warnings about your account and reports of abuse are "
            "sent by Postmark. A letter is sealed while it waits where its link opens something, and "
            "forgotten once it was sent. No letter loads anything or tells whether it was read.",
            (f"this server {'sends mail' if settings.sends_mail else 'sends no mail'}",),
        ),
        Promise(
            "Errors",
            "A fault is reported by its class and its place in the code, with the ids of the organization "
            "and the user, and the role. Messages, variables, headers, cookies, addresses, forms, queries "
            "and prompts are never part of a report.",
            (f"this server reports faults to {_host(settings)}",),
        ),
    ]


def _payments(settings: AdminSettings) -> list[Promise]:
    if settings.stripe_api_key is None:
        return []
    text = (
        "Cards are given to Stripe on its own pages, and never come near this server. What Stripe tells is "
        "believed by its signature alone, in production from its own addresses only, and is read from Stripe "
        "again before anything follows from it. Money is an append-only ledger in which every transaction "
        "adds up to zero."
    )
    return [Promise("Billing", text)]


def _host(settings: AdminSettings) -> str:
    if settings.sentry_dsn is None:
        return "nobody but its own log"
    return urlsplit(settings.sentry_dsn.get_secret_value()).hostname or ""


def _told(what: str, rule: Rule, by: str = "address") -> str:
    return f"{what}: {rule.uses} in {rule.period_seconds / 60:g} minutes for each {by}"

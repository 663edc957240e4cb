"""How often strangers and users may try what costs something or can be guessed.

Counting is shared by all processes (`storage.throttles`) and comes before anything expensive. An address is
the client's own, taken from trusted proxies only; of IPv6 it is the network of 64 bits, since that is what
one customer of a provider has. Who is given 65,536 of those, a network of 48 bits, has no more than
`SITE_CUSTOMERS` of them would. Where the database does not answer, nothing is allowed: the page says 503.

A rule per account stops guessing from many addresses. It could keep the account's owner out as well, so it
is wide, and a passkey is not subject to it.
"""

from __future__ import annotations

import ipaddress

from quart import request

from admin import client_address
from admin.services import services
from storage import throttles
from storage.throttles import Rule

MINUTE, HOUR, DAY = 60, 3600, 86400
SITE_CUSTOMERS = 16
"""A company's offices, or a small provider's customers, that are busy at once; a rented network guesses no
more than so many."""

SIGN_IN_ADDRESS = Rule("sign_in:address", 30, 5 * MINUTE)
"""An office shares an address, and people mistype; thirty guesses in five minutes are still none."""
SIGN_IN_ACCOUNT = Rule("sign_in:account", 20, 15 * MINUTE)
SIGN_UP_ADDRESS = Rule("sign_up:address", 10, HOUR)
SIGN_UP_ACCOUNT = Rule("sign_up:account", 3, HOUR)
"""Each is a mail to somebody who may not have asked for it."""
RESET_ADDRESS = Rule("reset:address", 10, HOUR)
RESET_ACCOUNT = Rule("reset:account", 5, DAY)
LINK_ADDRESS = Rule("link:address", 60, HOUR)
EMAIL_CHANGE_ACCOUNT = Rule("email_change:account", 5, DAY)
MINT_ACCOUNT = Rule("mint:account", 30, HOUR)
PROVIDER_TRIAL_ACCOUNT = Rule("provider_trial:account", 30, HOUR)
"""Each asks a provider whether a key is good: nobody should sort stolen ones that way."""
INVITE_ACCOUNT = Rule("invite:account", 50, DAY)
NEW_ORGANIZATION_ACCOUNT = Rule("new_organization:account", 10, DAY)
EXPORT_ACCOUNT = Rule("export:account", 20, HOUR)
AUDIT_PROOF_ACCOUNT = Rule("audit_proof:account", 20, HOUR)
"""Each may take the database half a minute."""
SUBSCRIBE_ADDRESS = Rule("subscribe:address", 10, HOUR)
SUBSCRIBE_ACCOUNT = Rule("subscribe:account", 3, DAY)
ABUSE_ADDRESS = Rule("abuse:address", 10, HOUR)
ABUSE_ALL = Rule("abuse:all", 500, DAY)
"""Each is a row for ever, and a mail."""
POSTMARK_ADDRESS = Rule("postmark:address", 600, MINUTE)
CHALLENGE_ADDRESS = Rule("challenge:address", 120, 5 * MINUTE)
"""Each is a row, made by opening a page."""
PROOF_ADDRESS = Rule("proof:address", 30, 5 * MINUTE)
PROOF_ACCOUNT = Rule("proof:account", 10, 15 * MINUTE)
CODE_ACCOUNT = Rule("code:account", 50, DAY)
"""Wrong ones. By the rule before alone, whoever has the password may try 960 a day, and since three of a
million codes are right at a time, one thief in twelve would find one within a month. So it is one in two
hundred. Counted before a code is looked at, so that tries at the same moment are no more than others. A right
one is given back, and makes no wrong one good."""
MANAGEMENT_MINT_ACCOUNT = Rule("management_mint:account", 20, HOUR)
WEBHOOK_CHANGE_ACCOUNT = Rule("webhook_change:account", 60, HOUR)
"""Each looks a name up, which a stranger chose."""
WEBHOOK_SEND_ACCOUNT = Rule("webhook_send:account", 60, HOUR)
"""Trials, and messages sent again."""
API_ADDRESS = Rule("api:address", 1200, MINUTE)
"""Counted before anything else is done with a call, so also for who has no key."""
API_KEY = Rule("api:key", 600, MINUTE)
API_UNPROVED_ADDRESS = Rule("api_unproved:address", 60, 5 * MINUTE)
"""Secrets that this process has not verified lately: each costs a bcrypt, and the right one costs one."""
API_MINT_KEY = Rule("api_mint:key", 120, HOUR)
API_INVITE_KEY = Rule("api_invite:key", 50, DAY)
API_IDEMPOTENT_KEY = Rule("api_idempotent:key", 10_000, DAY)
"""Each is a row, with an answer of some kilobytes at most."""

CHECKOUT_ADDRESS = Rule("checkout:address", 60, HOUR)
CHECKOUT_ORGANIZATION = Rule("checkout:organization", 30, HOUR)
"""Each is a call of Stripe, and mostly a row."""


class Throttled(Exception):
    """Too often: come back in `retry_after_seconds`."""

    def __init__(self, retry_after_seconds: int) -> None:
        super().__init__(f"again in {retry_after_seconds} s")
        self.retry_after_seconds = retry_after_seconds


async def count_address(rule: Rule) -> None:
    """Counts one use by the client's address, and by what is around it. Raises `Throttled`."""
    address = client_address.address(request, services().settings.trusted_proxies)
    await count(rule, bucket(address))
    # Behind it, since what was refused there does not count here: nobody uses up what is their neighbours'.
    around = site(address)
    if around is not None:
        wide = Rule(f"{rule.name}:site", rule.uses * SITE_CUSTOMERS, rule.period_seconds)
        await count(wide, around)


async def count(rule: Rule, subject: str) -> None:
    """Counts one use by an account, however it is named. Raises `Throttled`."""
    seconds = await throttles.use(services().db, rule, subject)
    if seconds is not None:
        raise Throttled(seconds)


async def forgive(rule: Rule, subject: str) -> None:
    """Begins anew for an account, after a success."""
    await throttles.forgive(services().db, rule, subject)


async def give_back(rule: Rule, subject: str) -> None:
    """Takes one use back, which was none that the rule is for."""
    await throttles.give_back(services().db, rule, subject)


def bucket(address: str | None) -> str:
    """What is counted together with an address."""
    parsed = _parse(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return "unknown" if parsed is None else str(parsed)


def site(address: str | None) -> str | None:
    """What an IPv6 address is in that one customer may have many of; None of IPv4."""
    parsed = _parse(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((parsed, 48), strict=False))
    return None


def _parse(address: str | None) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        parsed = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:
        return None
    # ::ffff:192.0.2.7 is 192.0.2.7, met on a dual-stack socket.
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return mapped or parsed

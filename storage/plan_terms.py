"""What each plan has: one table, and what is asked of it.

It is data of the release and not of an installation, so that gateway, pages and command line never hold
different ones (docs/decisions/0110). `plans` holds organizations to it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Final

import msgspec

from storage.model import LimitKind, Period, Plan

SUSPENDED_KEPT = timedelta(days=30)
"""How long provider keys, and requests that the new plan does not keep, are kept after a plan has ended."""
SEATS_MAX = 100_000
_DOLLAR: Final = 10**12


class Feature(StrEnum):
    """What a plan has or lacks."""

    BYOK = "byok"
    """Provider keys of the organization's own."""


class Allowance(StrEnum):
    """What a plan has so much of."""

    REQUESTS_PER_MINUTE = "requests_per_minute"
    TOKENS_PER_MINUTE = "tokens_per_minute"
    CONCURRENT = "concurrent"
    KEYS = "keys"
    WEBHOOK_ENDPOINTS = "webhook_endpoints"
    SEATS = "seats"
    USAGE_DAYS = "usage_days"
    """How long single requests are kept and shown; None: as long as the installation keeps them."""
    AUDIT_DAYS = "audit_days"
    """How far back the audit log is shown; nothing of it is deleted by that."""


class PlanTerms(msgspec.Struct, frozen=True, kw_only=True):
    """One plan. Of allowances None is: no ceiling of the plan's own."""

    plan: Plan
    name: str
    summary: str
    features: frozenset[Feature]
    included_picodollars: int
    """Credit of each month, for what goes up with the platform's provider keys."""
    price_picodollars: int | None
    """For a seat and month; None: by agreement."""
    requests_per_minute: int | None
    tokens_per_minute: int | None
    concurrent: int | None
    keys: int | None
    webhook_endpoints: int | None
    seats: int | None
    """Where no other number was bought."""
    usage_days: int | None
    audit_days: int | None


TERMS: Final = MappingProxyType(
    {
        Plan.FREE: PlanTerms(
            plan=Plan.FREE,
            name="Free",
            summary="To try Karta, and for small things.",
            features=frozenset(),
            included_picodollars=5 * _DOLLAR,
            price_picodollars=0,
            requests_per_minute=3_000,
            tokens_per_minute=2_000_000,
            concurrent=100,
            keys=10,
            webhook_endpoints=2,
            seats=3,
            usage_days=30,
            audit_days=365,
        ),
        Plan.PRO: PlanTerms(
            plan=Plan.PRO,
            name="Pro",
            summary="For teams, with provider keys of their own.",
            features=frozenset({Feature.BYOK}),
            included_picodollars=20 * _DOLLAR,
            price_picodollars=25 * _DOLLAR,
            requests_per_minute=None,
            tokens_per_minute=None,
            concurrent=None,
            keys=1_000,
            webhook_endpoints=20,
            seats=25,
            usage_days=None,
            audit_days=None,
        ),
        Plan.ENTERPRISE: PlanTerms(
            plan=Plan.ENTERPRISE,
            name="Enterprise",
            summary="For companies, by agreement.",
            features=frozenset({Feature.BYOK}),
            included_picodollars=0,
            price_picodollars=None,
            requests_per_minute=None,
            tokens_per_minute=None,
            concurrent=None,
            keys=None,
            webhook_endpoints=100,
            seats=None,
            usage_days=None,
            audit_days=None,
        ),
    }
)
"""Cheapest first. An audit log is kept for a year at least, whatever the plan."""

_CEILINGS: Final = (
    (Allowance.REQUESTS_PER_MINUTE, LimitKind.REQUESTS, Period.MINUTE),
    (Allowance.TOKENS_PER_MINUTE, LimitKind.TOKENS, Period.MINUTE),
    (Allowance.CONCURRENT, LimitKind.CONCURRENT, Period.NONE),
)
SUBJECTS: Final = {
    Feature.BYOK: "your own provider keys come",
    Allowance.KEYS: "API keys",
    Allowance.WEBHOOK_ENDPOINTS: "webhook endpoints",
    Allowance.SEATS: "seats",
}
MEND: Final = "change the plan on the page Plan, or with `karta org set-plan`"


def allows(plan: Plan, feature: Feature) -> bool:
    """Whether a plan has a feature."""
    return feature in TERMS[plan].features


def limit_of(plan: Plan, allowance: Allowance, *, seats: int | None = None) -> int | None:
    """How much of something a plan allows; None: as much as is wanted. `seats` is how many were bought."""
    if allowance is Allowance.SEATS and seats is not None:
        return seats
    found: int | None = getattr(TERMS[plan], allowance.value)
    return found


def shown_since(plan: Plan, allowance: Allowance, now: datetime | None = None) -> datetime | None:
    """From when on a plan shows what there is (`USAGE_DAYS`, `AUDIT_DAYS`); None: from the beginning."""
    days = limit_of(plan, allowance)
    return None if days is None else (now or datetime.now(UTC)) - timedelta(days=days)


def ceilings(plan: Plan) -> list[tuple[LimitKind, Period, int]]:
    """The plan's own limits on what its organizations use."""
    found = ((kind, period, limit_of(plan, allowance)) for allowance, kind, period in _CEILINGS)
    return [(kind, period, amount) for kind, period, amount in found if amount is not None]


def describe_lack(feature: Feature) -> str:
    """Says which plans have it, and where that is changed."""
    having = " and ".join(terms.name for terms in TERMS.values() if feature in terms.features)
    return f"{SUBJECTS[feature]} with the {having} plans: {MEND}"

"""The vocabulary both programs share: frozen records, one per thing Karta keeps.

Identifiers: organizations, users and credentials are UUIDs; an API key is named by its public id (the part of
the key between mode and secret), which is safe to show. Times are aware UTC datetimes. Money is
in picodollars (1e-12 USD), in which every price of a token is a whole number.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec


class Mode(StrEnum):
    """What a key reaches: real providers, or always the simulated one (never billed)."""

    LIVE = "live"
    TEST = "test"


class Plan(StrEnum):
    FREE = "free"
    PRO = "pro"
    ENTERPRISE = "enterprise"


class OrgStatus(StrEnum):
    ACTIVE = "active"
    SUSPENDED = "suspended"


class Role(StrEnum):
    OWNER = "owner"
    ADMIN = "admin"
    DEVELOPER = "developer"
    BILLING = "billing"
    VIEWER = "viewer"


class Organization(msgspec.Struct, frozen=True, kw_only=True):
    org_id: UUID
    name: str
    plan: Plan
    status: OrgStatus
    created_at: datetime
    mfa_required: bool = False
    """Members without a second factor see nothing of it."""
    delete_after: datetime | None = None
    """When it goes, if its end was asked for."""
    suspension_reason: str | None = None
    """Why staff suspended it."""
    payment_state: str | None = None
    """past_due, unpaid or incomplete, where a payment is; see `stripe_subscriptions`."""
    seats: int | None = None
    """How many were bought; None: as many as its plan has."""
    prepaid: bool = False
    """It pays in advance: what goes up with the platform's keys ends with its credit."""


class User(msgspec.Struct, frozen=True, kw_only=True):
    user_id: UUID
    email: str
    created_at: datetime


class Membership(msgspec.Struct, frozen=True, kw_only=True):
    org_id: UUID
    user_id: UUID
    role: Role


class APIKey(msgspec.Struct, frozen=True, kw_only=True):
    """A customer key as it may be shown: never the secret, never its digest."""

    key_id: str
    org_id: UUID
    name: str
    mode: Mode
    last_four: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    allowed_models: tuple[str, ...] | None
    """Model names the key may ask for (None: any)."""
    billed_elsewhere: bool = False
    """Also under a hard budget it may use what tells its cost only later or elsewhere."""
    allowed_endpoints: tuple[str, ...] | None = None
    allowed_networks: tuple[str, ...] | None = None

    @property
    def scope(self) -> KeyScope:
        """What it may be used for."""
        return KeyScope(
            models=self.allowed_models, endpoints=self.allowed_endpoints, networks=self.allowed_networks
        )


class KeyScope(msgspec.Struct, frozen=True, kw_only=True):
    """What a key may be used for. None is any."""

    models: tuple[str, ...] | None = None
    endpoints: tuple[str, ...] | None = None
    """First segments of paths behind `/v1/`."""
    networks: tuple[str, ...] | None = None
    """Where its clients must be, as CIDR."""


class ProviderCredential(msgspec.Struct, frozen=True, kw_only=True):
    """A provider key an organization brought, as it may be shown."""

    credential_id: UUID
    org_id: UUID
    provider: str
    last_four: str
    created_at: datetime
    revoked_at: datetime | None
    verified_at: datetime | None = None
    """When the provider let it in, where that was tried."""
    suspended_at: datetime | None = None
    """Since when the plan does not allow it: it is kept for a while, and not used."""


class SealedCredential(msgspec.Struct, frozen=True, kw_only=True):
    """A provider key as it is kept: opened only by `sealing.open_sealed`."""

    credential_id: UUID
    org_id: UUID
    provider: str
    master_key_version: int
    org_salt: bytes
    wrapped_key: bytes
    ciphertext: bytes


class GatewayKey(msgspec.Struct, frozen=True, kw_only=True):
    """All the data plane needs to know of one customer key, in one row.

    `secret_digest` is the bcrypt digest; `credentials` are the organization's live provider keys, sealed.
    """

    key_id: str
    org_id: UUID
    mode: Mode
    secret_digest: bytes
    expires_at: datetime | None
    revoked_at: datetime | None
    allowed_models: tuple[str, ...] | None
    billed_elsewhere: bool
    plan: Plan
    org_status: OrgStatus
    credentials: tuple[SealedCredential, ...]
    limits: tuple[Limit, ...] = ()
    """Those of the key and of its organization, for all models and for single ones."""
    routes: tuple[Route, ...] = ()
    """Those of its organization."""
    server_timing: bool = False
    """Answers tell how long each stage took."""
    allowed_endpoints: tuple[str, ...] | None = None
    allowed_networks: tuple[str, ...] | None = None
    suspended_providers: tuple[str, ...] = ()
    """Those whose keys the organization brought, and may not use on its plan."""

    def __repr__(self) -> str:
        return f"GatewayKey({self.key_id!r}, org_id={self.org_id!r})"


class ActorKind(StrEnum):
    USER = "user"
    CLI = "cli"
    GATEWAY = "gateway"
    SYSTEM = "system"
    MANAGEMENT_KEY = "management_key"


class Actor(msgspec.Struct, frozen=True, kw_only=True):
    """Who caused a change, for the audit log."""

    kind: ActorKind
    actor_id: str
    """A user id, the operating-system user of a command line, a component's name, a management key's id."""
    address: str | None = None
    user_agent: str | None = None
    request_id: str | None = None


class CredentialKind(StrEnum):
    """Whose provider key a request went up with."""

    BYOK = "byok"
    PLATFORM = "platform"
    SIMULATED = "simulated"


class Outcome(StrEnum):
    """How a metered request ended."""

    COMPLETED = "completed"
    CLIENT_GONE = "client_gone"
    UPSTREAM_FAILED = "upstream_failed"
    TIMED_OUT = "timed_out"
    REFUSED = "refused"
    REVOKED = "revoked"
    """Its key was revoked, or its organization suspended, while the answer was on its way."""
    STOPPED = "stopped"
    """The gateway was stopped, and the answer did not end within the drain."""
    INTERRUPTED = "interrupted"
    """Its worker died: the row was written by the next one."""


class UsageRecord(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """One request, as it is metered: exactly one of these whatever its end.

    Fields are those of `usage_tuple.COLUMNS`, in their order. Token classes are disjoint: input excludes
    cache reads and writes; reasoning and output audio are parts of output, input audio is part of input, kept
    for information and never added.
    """

    request_id: str
    """Karta's request id: 32 hexadecimal digits (a UUID in the database)."""
    started_at: datetime
    org_id: UUID
    key_id: str
    credential_kind: CredentialKind
    credential_id: UUID | None
    provider: str
    endpoint: str
    model_asked: str | None
    model_answered: str | None
    service_tier: str | None
    status: int
    """The HTTP status the client was sent; 0 when none was."""
    outcome: Outcome
    streamed: bool
    usage_complete: bool
    """True when the provider's own final figures were seen; False when estimated or partial."""
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_5m_tokens: int
    cache_write_1h_tokens: int
    reasoning_tokens: int
    input_audio_tokens: int
    output_audio_tokens: int
    server_tool_calls: int
    cost_picodollars: int | None
    """None when the price is unknown, which is not the same as free."""
    price_version: str | None
    charged_picodollars: int
    """What money limits are charged: the cost, or a configured stand-in when it is unknown."""
    provider_request_id: str | None
    request_bytes: int
    response_bytes: int
    queue_us: int
    verify_us: int
    dial_us: int
    first_byte_us: int
    total_us: int


class LimitKind(StrEnum):
    """What a limit counts."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    CONCURRENT = "concurrent"
    MONEY = "money"
    CREDIT = "credit"
    """Money paid in advance; only what goes up with the platform's keys is taken from it."""


class Period(StrEnum):
    """How long a limit's window is, in UTC. Concurrent streams have none."""

    MINUTE = "minute"
    DAY = "day"
    MONTH = "month"
    NONE = "none"


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """So much of something in every window, for an organization or one of its keys, for all models or one.

    `amount` is in requests, tokens, streams at once, or picodollars. A soft limit (not `hard`) refuses
    nothing; a budget tells at `thresholds`, in percent.
    """

    limit_id: int
    org_id: UUID
    key_id: str | None
    model: str | None
    kind: LimitKind
    period: Period
    amount: int
    hard: bool
    thresholds: tuple[int, ...]
    of_plan: bool = False
    """A ceiling that the plan sets: nobody of the organization changes it."""


class RouteTarget(msgspec.Struct, frozen=True, kw_only=True):
    """One place a route may lead to: a provider, what the model is called there, and whose key goes up."""

    provider: str
    model: str
    weight: int | None = None
    """Neighbours that have one share their place, and are drawn by it."""
    credential: CredentialKind | None = None
    """None: the organization's own key, or else the platform's."""
    first_byte_seconds: float | None = None
    """How long its answer may take to begin (None: as long as any)."""


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """A name that requests give as their model, and what it stands for, in the order of trying."""

    alias: str
    targets: tuple[RouteTarget, ...]

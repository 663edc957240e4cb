"""What the management API takes and answers. Names, texts and bounds here are those of its document."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from msgspec import Meta, Struct, field

from admin import amount
from admin.providers import PROVIDERS
from storage.api_keys import OVERLAP_SECONDS_MAX
from storage.credentials import SECRET_BYTES_MIN
from storage.invitations import Invitation
from storage.key_scopes import ENTRIES_MAX
from storage.limits import THRESHOLDS
from storage.management_keys import Scope
from storage.memberships import Member
from storage.model import (
    APIKey,
    CredentialKind,
    LimitKind,
    Mode,
    Outcome,
    Period,
    Plan,
    ProviderCredential,
    Role,
    Route,
)
from storage.plan_terms import Feature
from storage.routes import TARGETS_MAX
from storage.sealing import PLAINTEXT_BYTES_MAX
from storage.usage_report import Grouping

PAGE_ITEMS_MAX = 100
PAGE_ITEMS = 50

Name = Annotated[
    str, Meta(min_length=1, max_length=200, description="Printable; spaces around it are cut off.")
]
Model = Annotated[str, Meta(min_length=1, max_length=200)]
Time = Annotated[datetime, Meta(tz=True)]
Provider = Annotated[str, Meta(min_length=1, max_length=32, extra_json_schema={"enum": list(PROVIDERS)})]
Secret = Annotated[
    str,
    Meta(
        min_length=SECRET_BYTES_MIN,
        max_length=PLAINTEXT_BYTES_MAX,
        pattern="^[!-~]*$",
        description="The provider's key. It is sealed at once, and never shown again.",
    ),
]
Amount = Annotated[
    str,
    Meta(
        pattern=amount.PATTERN,
        max_length=32,
        description="A decimal number above 0: of requests, tokens or requests at once (whole), or dollars.",
        examples=["600", "12.50"],
    ),
]
Dollars = Annotated[
    str, Meta(description="Dollars as a decimal number, nothing rounded.", examples=["12.50"])
]
RoleName = Literal["admin", "developer", "billing", "viewer"]
CURSOR_CHARS_MAX = 2200
"""The longest names a model of 256 characters, each of which JSON may spell with six."""
Cursor = Annotated[
    str, Meta(max_length=CURSOR_CHARS_MAX, description="The `next_cursor` of the page before.")
]
Limit = Annotated[int, Meta(ge=1, le=PAGE_ITEMS_MAX, description="The most items of a page.")]
NextCursor = Annotated[
    str | None, Meta(description="Ask with it as `cursor` for the next page; null on the last one.")
]


Models = Annotated[list[Model], Meta(min_length=1, max_length=200, description="The models it may ask for.")]
Endpoints = Annotated[
    list[Annotated[str, Meta(pattern="^[a-z_]{1,40}$")]],
    Meta(min_length=1, max_length=ENTRIES_MAX, description="What may follow `/v1/`, like `messages`."),
]
Networks = Annotated[
    list[Annotated[str, Meta(min_length=2, max_length=50)]],
    Meta(
        min_length=1,
        max_length=ENTRIES_MAX,
        description="Where its clients must be, like `192.0.2.0/24`.",
        examples=[["192.0.2.0/24", "2001:db8::/32"]],
    ),
]
Untried = Annotated[
    bool,
    Meta(
        description="Keep the key without asking the provider for its list of models with it. Else a key "
        "that the provider does not know, and one about which it tells nothing, are not taken."
    ),
]


class Page(Struct, forbid_unknown_fields=True, frozen=True):
    limit: Limit = PAGE_ITEMS
    cursor: Cursor | None = None


class ManagementKeyAnswer(Struct, frozen=True, kw_only=True):
    """The key that asks."""

    key_id: str
    org_id: UUID
    name: str
    scopes: list[Scope]
    role: Annotated[
        Role,
        Meta(description="Its minter's, at minting. This and `current_role` must both allow a call."),
    ]
    current_role: Role
    created_at: datetime
    expires_at: datetime


class PlanAnswer(Struct, frozen=True, kw_only=True):
    """The organization's plan. Null is: no ceiling of the plan's own."""

    plan: Plan
    features: Annotated[list[Feature], Meta(description="`byok`: provider keys of the organization's own.")]
    included_usd: Annotated[Dollars, Meta(description="Credit of each month.")]
    requests_per_minute: int | None
    tokens_per_minute: int | None
    concurrent: int | None
    keys: int | None
    keys_used: int
    webhook_endpoints: int | None
    seats: int | None
    seats_used: int
    usage_days: int | None
    audit_days: int | None


class BalanceAnswer(Struct, frozen=True, kw_only=True):
    """What the organization has to spend on requests by the platform's provider keys."""

    credit_usd: Annotated[Dollars, Meta(description="Paid in advance; below zero: owed.")]
    included_usd: Annotated[Dollars, Meta(description="What is left of the month's included credit.")]
    balance_usd: Annotated[Dollars, Meta(description="Both together, as of the last hour that was charged.")]
    prepaid: Annotated[bool, Meta(description="Requests by the platform's keys end with the credit.")]


class Renaming(Struct, forbid_unknown_fields=True, frozen=True):
    name: Name


class MemberPage(Struct, frozen=True, kw_only=True):
    items: list[Member]
    next_cursor: NextCursor


class RoleChange(Struct, forbid_unknown_fields=True, frozen=True):
    role: Annotated[
        RoleName, Meta(description="Owners are made, changed and removed in the browser, by owners.")
    ]


class Done(Struct, frozen=True):
    """It was done, and there is nothing to show for it."""

    done: bool = True


class InvitationPage(Struct, frozen=True, kw_only=True):
    items: list[Invitation]
    next_cursor: NextCursor


class NewInvitation(Struct, forbid_unknown_fields=True, frozen=True):
    email: Annotated[str, Meta(min_length=3, max_length=254)]
    role: RoleName


class APIKeyPage(Struct, frozen=True, kw_only=True):
    items: list[APIKey]
    next_cursor: NextCursor


class NewScope(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """What a key may be used for, in place of what it could before. Null is any."""

    allowed_models: Models | None = None
    allowed_endpoints: Endpoints | None = None
    allowed_networks: Networks | None = None


class NewAPIKey(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    name: Name
    mode: Annotated[Mode, Meta(description="`test` keys reach a simulated provider, and are never billed.")]
    expires_at: Time | None = None
    allowed_models: Models | None = None
    allowed_endpoints: Endpoints | None = None
    allowed_networks: Networks | None = None


class Rotation(Struct, forbid_unknown_fields=True, frozen=True):
    overlap_seconds: Annotated[
        int,
        Meta(ge=0, le=OVERLAP_SECONDS_MAX, description="How long the old key lives on beside the new one."),
    ] = 0


class MintedAPIKey(Struct, frozen=True, kw_only=True):
    """A new key. `key` is the key itself, shown this once: in an answer that is repeated for an
    Idempotency-Key it is null."""

    api_key: APIKey
    key: str | None

    def __repr__(self) -> str:
        return f"MintedAPIKey({self.api_key!r})"


class LimitAnswer(Struct, frozen=True, kw_only=True):
    """A limit or budget, and what is used of it in its present window."""

    limit_id: int
    key_id: Annotated[
        str | None, Meta(description="The API key it is for (null: all of the organization together).")
    ]
    model: Annotated[str | None, Meta(description="The model it is for (null: all).")]
    kind: LimitKind
    period: Period
    amount: Amount
    used: Annotated[Amount, Meta(description="Accounted for, or set apart by gateways and perhaps used.")]
    hard: Annotated[bool, Meta(description="A soft one refuses nothing.")]
    thresholds: Annotated[list[int], Meta(description="At which percentages a budget tells.")]


class LimitPage(Struct, frozen=True, kw_only=True):
    items: list[LimitAnswer]
    next_cursor: NextCursor


class NewLimit(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """There is one limit at most of a kind, period and model: setting it again changes it, and keeps what was
    counted."""

    kind: LimitKind
    period: Annotated[
        Period,
        Meta(description="`none` for `concurrent`; `day` or `month` for `money`; else one with an end."),
    ]
    model: Model | None = None
    amount: Amount
    hard: bool = True
    thresholds: Annotated[list[Annotated[int, Meta(ge=1, le=1000)]], Meta(max_length=10)] = field(
        default_factory=lambda: list(THRESHOLDS)
    )


class ProviderKeyPage(Struct, frozen=True, kw_only=True):
    items: list[ProviderCredential]
    next_cursor: NextCursor


class NewProviderKey(Struct, forbid_unknown_fields=True, frozen=True):
    """Takes the place of the key the organization had for that provider."""

    provider: Provider
    secret: Secret
    untried: Untried = False

    def __repr__(self) -> str:
        return f"NewProviderKey({self.provider!r})"


class NewSecret(Struct, forbid_unknown_fields=True, frozen=True):
    secret: Secret
    untried: Untried = False

    def __repr__(self) -> str:
        return "NewSecret()"


class RoutePage(Struct, frozen=True, kw_only=True):
    items: list[Route]
    next_cursor: NextCursor


class NewTarget(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    provider: Provider
    model: Annotated[
        Annotated[str, Meta(pattern="^[!-~]{1,200}$")], Meta(description="What the provider calls it.")
    ]
    weight: Annotated[
        Annotated[int, Meta(ge=1, le=1000)] | None,
        Meta(description="Neighbours that have one share their place, and are drawn by it."),
    ] = None
    credential: Annotated[
        Literal["byok", "platform"] | None,
        Meta(description="Null: the organization's own key, or else the platform's."),
    ] = None
    first_byte_seconds: Annotated[float, Meta(ge=0.1, le=3600)] | None = None


class NewRoute(Struct, forbid_unknown_fields=True, frozen=True):
    alias: Annotated[Model, Meta(description="What requests name as their model.")]
    targets: Annotated[
        Annotated[list[NewTarget], Meta(min_length=1, max_length=TARGETS_MAX)],
        Meta(description="In the order of trying."),
    ]


class RouteName(Struct, forbid_unknown_fields=True, frozen=True):
    alias: Model


class UsageSums(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    by: (
        Annotated[Grouping, Meta(description="One row for each of these; without it one row for all.")] | None
    ) = None
    since: Annotated[datetime, Meta(tz=True, description="Requests that began then or later.")] | None = None
    until: Annotated[datetime, Meta(tz=True, description="Requests that began before that.")] | None = None
    limit: Limit = PAGE_ITEMS
    cursor: Cursor | None = None


class UsageSum(Struct, frozen=True, kw_only=True):
    """Sums over a group of requests. Token figures exclude each other, except that reasoning and audio are
    parts of input and output."""

    group: Annotated[
        str | None, Meta(description="A UTC day, a key id, a model as answered, or a provider; null for all.")
    ]
    requests: int
    incomplete: Annotated[int, Meta(description="Requests whose provider never told its final figures.")]
    unpriced: Annotated[
        int, Meta(description="Requests whose price is unknown: their cost is not in the sum.")
    ]
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_5m_tokens: int
    cache_write_1h_tokens: int
    reasoning_tokens: int
    input_audio_tokens: int
    output_audio_tokens: int
    server_tool_calls: int
    cost_usd: Dollars


class UsageSumPage(Struct, frozen=True, kw_only=True):
    items: list[UsageSum]
    next_cursor: NextCursor


class UsageRows(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    since: Annotated[datetime, Meta(tz=True, description="Requests that began then or later.")] | None = None
    limit: Limit = PAGE_ITEMS
    cursor: Cursor | None = None


class UsageRow(Struct, frozen=True, kw_only=True):
    """One request as it was metered. Nothing of what was asked or answered is ever stored."""

    request_id: str
    started_at: datetime
    key_id: str
    credential_kind: CredentialKind
    provider: str
    endpoint: str
    model_asked: str | None
    model_answered: str | None
    status: int
    outcome: Outcome
    streamed: bool
    usage_complete: Annotated[bool, Meta(description="False when the figures are estimated or partial.")]
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_5m_tokens: int
    cache_write_1h_tokens: int
    reasoning_tokens: int
    cost_usd: Annotated[
        Dollars | None, Meta(description="Null when the price is unknown, which is not the same as free.")
    ]
    provider_request_id: str | None
    first_byte_us: int
    total_us: int


class UsageRowPage(Struct, frozen=True, kw_only=True):
    items: list[UsageRow]
    next_cursor: NextCursor

"""Who may do what: one table, and the one place where it is applied.

Each endpoint of the app has its row. What has none is refused, and a test compares the table with the app's
routes. A page of an organization is 404 to everybody who is no member, as if it did not exist, and 403 to a
member whose role does not allow it. Roles are read anew for each request, with the session. The platform's
staff have pages of their own, for which a second factor is compulsory; they are no members of what they see.

The management API's operations have their rows too. Who calls them is a key: its scopes must have the row's,
and the row must allow both the role that who minted it had then and the one they have now.

Some acts need fresh proof besides (`proof=True`): the person must have proved who they are in the last five
minutes, in this session.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple, cast
from uuid import UUID

from quart import g, request
from werkzeug.exceptions import NotFound

from admin import bearer, web_session
from storage.acting import ADMINS as ADMINS
from storage.acting import DEVELOPERS as DEVELOPERS
from storage.management_keys import Scope
from storage.model import Organization, Role


class Audience(Enum):
    EVERYBODY = "everybody"
    SIGNED_IN = "signed in"
    MEMBER = "member"
    KEY = "management key"
    STAFF = "staff"
    """Of the platform. To everybody else their pages do not exist."""


class Access(NamedTuple):
    """Who may use one endpoint. `roles` are for members and keys, `scope` for keys."""

    audience: Audience
    roles: frozenset[Role] = frozenset()
    proof: bool = False
    scope: Scope | None = None


OWNERS = frozenset({Role.OWNER})
BUDGETERS = frozenset({Role.OWNER, Role.ADMIN, Role.BILLING})
ALL_ROLES = frozenset(Role)

EVERYBODY = Access(Audience.EVERYBODY)
SIGNED_IN = Access(Audience.SIGNED_IN)
PROVED = Access(Audience.SIGNED_IN, proof=True)
MEMBERS = Access(Audience.MEMBER, ALL_ROLES)
STAFF = Access(Audience.STAFF)
STAFF_PROVED = Access(Audience.STAFF, proof=True)


def _key(scope: Scope | None, roles: frozenset[Role] = ALL_ROLES) -> Access:
    return Access(Audience.KEY, roles, scope=scope)


TABLE: dict[str, Access] = {
    "static": EVERYBODY,
    "stripe_webhook.take": EVERYBODY,  # signed by Stripe
    "transport.healthz": EVERYBODY,
    "transport.report_violation": EVERYBODY,
    "trust.show_security": EVERYBODY,
    "trust.show_policy": EVERYBODY,
    "trust.show_compliance": EVERYBODY,
    "trust.show_sub_processors": EVERYBODY,
    "trust.show_security_txt": EVERYBODY,
    "trust.follow_security_txt": EVERYBODY,
    "status.show": EVERYBODY,
    "status.show_json": EVERYBODY,
    "status.show_atom": EVERYBODY,
    "status.show_badge": EVERYBODY,
    "status.show_history": EVERYBODY,
    "status.show_incident": EVERYBODY,
    "subscribe.show": EVERYBODY,
    "subscribe.ask": EVERYBODY,
    "subscribe.show_sent": EVERYBODY,
    "subscribe.show_confirm": EVERYBODY,
    "subscribe.confirm": EVERYBODY,
    "subscribe.show_end": EVERYBODY,
    "subscribe.end": EVERYBODY,
    "abuse.show": EVERYBODY,
    "abuse.report": EVERYBODY,
    "outbox.show": EVERYBODY,  # but only in development, and only on this machine
    "outbox.show_html": EVERYBODY,  # likewise
    "accounts.show_sign_in": EVERYBODY,
    "accounts.sign_in": EVERYBODY,
    "accounts.sign_out": SIGNED_IN,
    "links.follow": EVERYBODY,
    "sign_up.show": EVERYBODY,
    "sign_up.ask": EVERYBODY,
    "sign_up.show_sent": EVERYBODY,
    "sign_up.show_confirm": EVERYBODY,
    "sign_up.confirm": EVERYBODY,
    "reset.show": EVERYBODY,
    "reset.ask": EVERYBODY,
    "reset.show_sent": EVERYBODY,
    "reset.show_confirm": EVERYBODY,
    "reset.confirm": EVERYBODY,
    "mail_preferences.show": SIGNED_IN,
    "mail_preferences.change": SIGNED_IN,
    "profile.show": SIGNED_IN,
    "profile.show_password": PROVED,
    "profile.change_password": PROVED,
    "profile.show_email": PROVED,
    "profile.change_email": PROVED,
    "profile.show_confirm_email": EVERYBODY,
    "profile.confirm_email": EVERYBODY,
    "profile.end_session_by_id": SIGNED_IN,
    "profile.end_others": SIGNED_IN,
    "profile.show_delete": PROVED,
    "profile.delete": PROVED,
    "factors.show": SIGNED_IN,
    "factors.begin_app": PROVED,
    "factors.show_app": PROVED,
    "factors.confirm_app": PROVED,
    "factors.remove_app": PROVED,
    "factors.show_passkey": PROVED,
    "factors.add_passkey": PROVED,
    "factors.remove_passkey_by_id": PROVED,
    "factors.show_codes": PROVED,
    "factors.make_codes": PROVED,
    "second_factor.show": EVERYBODY,
    "second_factor.by_code": EVERYBODY,
    "second_factor.by_passkey": EVERYBODY,
    "second_factor.show_recovery": EVERYBODY,
    "second_factor.by_recovery_code": EVERYBODY,
    "second_factor.show_passkey": EVERYBODY,
    "second_factor.by_passkey_alone": EVERYBODY,
    "proof.show": SIGNED_IN,
    "proof.by_code": SIGNED_IN,
    "proof.by_passkey": SIGNED_IN,
    "proof.by_password": SIGNED_IN,
    "proof.resume": SIGNED_IN,
    "members.follow": EVERYBODY,
    "members.show_invitation": EVERYBODY,
    "members.accept": SIGNED_IN,
    "members.sign_up": EVERYBODY,
    "members.show": MEMBERS,
    "members.invite_by_email": Access(Audience.MEMBER, ADMINS),
    "members.withdraw": Access(Audience.MEMBER, ADMINS),
    "members.change": Access(Audience.MEMBER, ADMINS),
    "members.remove": MEMBERS,  # oneself; whom else is in storage.memberships
    "organizations.show_new": SIGNED_IN,
    "organizations.create": SIGNED_IN,
    "organizations.show_settings": Access(Audience.MEMBER, ADMINS),
    "organizations.change_name": Access(Audience.MEMBER, ADMINS),
    "organizations.change_mfa": Access(Audience.MEMBER, OWNERS, proof=True),
    "organizations.show_delete": Access(Audience.MEMBER, OWNERS, proof=True),
    "organizations.delete": Access(Audience.MEMBER, OWNERS, proof=True),
    "organizations.keep": Access(Audience.MEMBER, OWNERS),
    "keys.show_home": SIGNED_IN,
    "keys.show_organization": MEMBERS,
    "keys.show_key": MEMBERS,
    "keys.revoke": Access(Audience.MEMBER, DEVELOPERS),
    "minting.show_new": Access(Audience.MEMBER, DEVELOPERS),
    "minting.mint": Access(Audience.MEMBER, DEVELOPERS),
    "minting.show_rotate": Access(Audience.MEMBER, DEVELOPERS),
    "minting.rotate": Access(Audience.MEMBER, DEVELOPERS),
    "scopes.show": Access(Audience.MEMBER, DEVELOPERS),
    "scopes.change": Access(Audience.MEMBER, DEVELOPERS),
    "usage.show": MEMBERS,
    "usage.download": MEMBERS,
    "audit.show": Access(Audience.MEMBER, ADMINS),
    "audit.export": Access(Audience.MEMBER, ADMINS, proof=True),
    "audit.show_proof": Access(Audience.MEMBER, ADMINS),
    "audit.prove": Access(Audience.MEMBER, ADMINS),
    "requests.show_newest": MEMBERS,
    "requests.show": MEMBERS,
    "limits.show": MEMBERS,
    "limits.change": Access(Audience.MEMBER, BUDGETERS),
    "limits.show_of_key": MEMBERS,
    "limits.change_of_key": Access(Audience.MEMBER, DEVELOPERS | BUDGETERS),
    "provider_keys.show": MEMBERS,
    "provider_keys.show_new": Access(Audience.MEMBER, ADMINS, proof=True),
    "provider_keys.add": Access(Audience.MEMBER, ADMINS, proof=True),
    "provider_keys.show_rotate": Access(Audience.MEMBER, ADMINS, proof=True),
    "provider_keys.rotate": Access(Audience.MEMBER, ADMINS, proof=True),
    "provider_keys.revoke": Access(Audience.MEMBER, ADMINS, proof=True),
    "plan.show": MEMBERS,
    "plan.show_change": Access(Audience.MEMBER, OWNERS, proof=True),
    "plan.change": Access(Audience.MEMBER, OWNERS, proof=True),
    "statement.show": Access(Audience.MEMBER, BUDGETERS),
    "management_keys.show": Access(Audience.MEMBER, DEVELOPERS | BUDGETERS),
    "management_keys.show_new": Access(Audience.MEMBER, DEVELOPERS | BUDGETERS, proof=True),
    "management_keys.mint": Access(Audience.MEMBER, DEVELOPERS | BUDGETERS, proof=True),
    "management_keys.revoke": Access(Audience.MEMBER, DEVELOPERS | BUDGETERS),  # whose: in the view
    "webhooks.show": Access(Audience.MEMBER, DEVELOPERS),
    "webhooks.show_new": Access(Audience.MEMBER, ADMINS, proof=True),
    "webhooks.create": Access(Audience.MEMBER, ADMINS, proof=True),
    "webhooks.show_endpoint": Access(Audience.MEMBER, DEVELOPERS),
    "webhooks.show_change": Access(Audience.MEMBER, ADMINS, proof=True),
    "webhooks.change": Access(Audience.MEMBER, ADMINS, proof=True),
    "webhooks.show_rotate": Access(Audience.MEMBER, ADMINS, proof=True),
    "webhooks.rotate": Access(Audience.MEMBER, ADMINS, proof=True),
    "webhooks.enable": Access(Audience.MEMBER, ADMINS),
    "webhooks.disable": Access(Audience.MEMBER, ADMINS),
    "webhooks.delete": Access(Audience.MEMBER, ADMINS),
    "webhook_log.show": Access(Audience.MEMBER, DEVELOPERS),
    "webhook_log.redeliver_by_id": Access(Audience.MEMBER, DEVELOPERS),
    "webhook_log.send_trial": Access(Audience.MEMBER, DEVELOPERS),
    "payments.show": Access(Audience.MEMBER, BUDGETERS),
    "payments.show_return": Access(Audience.MEMBER, BUDGETERS),
    "payments.subscribe": Access(Audience.MEMBER, BUDGETERS, proof=True),
    "payments.top_up": Access(Audience.MEMBER, BUDGETERS, proof=True),
    "payments.open_portal": Access(Audience.MEMBER, BUDGETERS, proof=True),
    "payments.end": Access(Audience.MEMBER, BUDGETERS, proof=True),
    "payments.keep": Access(Audience.MEMBER, BUDGETERS, proof=True),
    "api.openapi": EVERYBODY,
    "api.get_management_key": _key(None),
    "api.get_organization": _key(Scope.ORGANIZATION_READ),
    "api.get_plan": _key(Scope.ORGANIZATION_READ),
    "api.get_balance": _key(Scope.USAGE_READ, BUDGETERS),
    "api.rename_organization": _key(Scope.ORGANIZATION_WRITE, ADMINS),
    "api.list_members": _key(Scope.MEMBERS_READ),
    "api.change_member_role": _key(Scope.MEMBERS_WRITE, ADMINS),
    "api.remove_member": _key(Scope.MEMBERS_WRITE, ADMINS),
    "api.list_invitations": _key(Scope.MEMBERS_READ),
    "api.create_invitation": _key(Scope.MEMBERS_WRITE, ADMINS),
    "api.withdraw_invitation": _key(Scope.MEMBERS_WRITE, ADMINS),
    "api.list_api_keys": _key(Scope.KEYS_READ),
    "api.mint_api_key": _key(Scope.KEYS_WRITE, DEVELOPERS),
    "api.get_api_key": _key(Scope.KEYS_READ),
    "api.set_api_key_scope": _key(Scope.KEYS_WRITE, DEVELOPERS),
    "api.rotate_api_key": _key(Scope.KEYS_WRITE, DEVELOPERS),
    "api.revoke_api_key": _key(Scope.KEYS_WRITE, DEVELOPERS),
    "api.list_limits": _key(Scope.LIMITS_READ),
    "api.set_limit": _key(Scope.LIMITS_WRITE, BUDGETERS),
    "api.remove_limit": _key(Scope.LIMITS_WRITE, BUDGETERS),
    "api.list_api_key_limits": _key(Scope.LIMITS_READ),
    "api.set_api_key_limit": _key(Scope.LIMITS_WRITE, DEVELOPERS | BUDGETERS),
    "api.remove_api_key_limit": _key(Scope.LIMITS_WRITE, DEVELOPERS | BUDGETERS),
    "api.list_provider_keys": _key(Scope.PROVIDER_KEYS_READ),
    "api.set_provider_key": _key(Scope.PROVIDER_KEYS_WRITE, ADMINS),
    "api.rotate_provider_key": _key(Scope.PROVIDER_KEYS_WRITE, ADMINS),
    "api.revoke_provider_key": _key(Scope.PROVIDER_KEYS_WRITE, ADMINS),
    "api.list_routes": _key(Scope.ROUTES_READ),
    "api.set_route": _key(Scope.ROUTES_WRITE, ADMINS),
    "api.remove_route": _key(Scope.ROUTES_WRITE, ADMINS),
    "api.list_webhooks": _key(Scope.WEBHOOKS_READ, DEVELOPERS),
    "api.create_webhook": _key(Scope.WEBHOOKS_WRITE, ADMINS),
    "api.get_webhook": _key(Scope.WEBHOOKS_READ, DEVELOPERS),
    "api.change_webhook": _key(Scope.WEBHOOKS_WRITE, ADMINS),
    "api.delete_webhook": _key(Scope.WEBHOOKS_WRITE, ADMINS),
    "api.enable_webhook": _key(Scope.WEBHOOKS_WRITE, ADMINS),
    "api.disable_webhook": _key(Scope.WEBHOOKS_WRITE, ADMINS),
    "api.rotate_webhook_secret": _key(Scope.WEBHOOKS_WRITE, ADMINS),
    "api.test_webhook": _key(Scope.WEBHOOKS_WRITE, DEVELOPERS),
    "api.list_webhook_deliveries": _key(Scope.WEBHOOKS_READ, DEVELOPERS),
    "api.get_webhook_delivery": _key(Scope.WEBHOOKS_READ, DEVELOPERS),
    "api.redeliver_webhook": _key(Scope.WEBHOOKS_WRITE, DEVELOPERS),
    "api.sum_usage": _key(Scope.USAGE_READ),
    "api.list_usage": _key(Scope.USAGE_READ),
    "api.get_usage_request": _key(Scope.USAGE_READ),
    "incidents.show": STAFF,
    "incidents.open_new": STAFF_PROVED,
    "incidents.tell": STAFF_PROVED,
    "incidents.plan": STAFF_PROVED,
    "incidents.cancel": STAFF_PROVED,
    "suppressions.show": STAFF,
    "suppressions.lift_one": STAFF_PROVED,
    "suppressions_webhook.take": EVERYBODY,  # who proves themselves by the webhook's password
    "reports.show_abuse": STAFF,
    "reports.close": STAFF_PROVED,
    "reports.show_violations": STAFF,
    "staff.show_organizations": STAFF,
    "staff.show_organization": STAFF,
    "staff.suspend_organization": STAFF_PROVED,
    "staff.lift_suspension": STAFF_PROVED,
    "staff.change_plan": STAFF_PROVED,
    "staff.sign_member_out": STAFF_PROVED,
    "payment_events.show": STAFF,
    "payment_events.replay": STAFF_PROVED,
}


class Forbidden(Exception):
    """A member's role, or that of who minted a key, does not allow it."""


class ScopeMissing(Exception):
    """The management key is not for that."""

    def __init__(self, scope: Scope) -> None:
        super().__init__(scope.value)
        self.scope = scope


class ProofNeeded(Exception):
    """The person must prove who they are first."""


class FactorNeeded(Exception):
    """The organization is for members who have a second factor."""


class Membership(NamedTuple):
    organization: Organization
    role: Role


async def require_access() -> None:
    """Before each request. Raises `SignedOut`, `NotFound`, `Forbidden`, `FactorNeeded` or `ProofNeeded`; of a
    key `Unauthenticated`, `NotFound`, `ScopeMissing`, `Forbidden` or `FactorNeeded`."""
    if request.endpoint is None:
        return None  # 404 or 405 follows
    access = TABLE.get(request.endpoint)
    if access is None:
        raise NotFound
    if access.audience is Audience.EVERYBODY:
        return None
    if access.audience is Audience.KEY:
        return await _require_key(access)
    signed_in = web_session.require()
    if access.audience is Audience.STAFF:
        if not signed_in.is_staff:
            raise NotFound
        if not signed_in.has_factor:
            raise FactorNeeded
    if access.audience is Audience.MEMBER:
        g.membership = _require_member(UUID(str((request.view_args or {})["org_id"])))
        if current_membership().role not in access.roles:
            raise Forbidden
        if current_membership().organization.mfa_required and not signed_in.has_factor:
            raise FactorNeeded
    if access.proof and not signed_in.session.stepped_up:
        raise ProofNeeded
    return None


async def _require_key(access: Access) -> None:
    acting = await bearer.authenticate()
    if (request.view_args or {}).get("org_id", acting.key.org_id) != acting.key.org_id:
        raise NotFound
    if access.scope is not None and access.scope not in acting.key.scopes:
        raise ScopeMissing(access.scope)
    if not {acting.key.role, acting.current_role} <= access.roles:
        raise Forbidden
    if acting.factor_missing:
        raise FactorNeeded


def current_membership() -> Membership:
    """The organization of this page and the signed-in user's role in it."""
    return cast("Membership", g.membership)


def allows(endpoint: str) -> bool:
    """Whether the table lets the current member use an endpoint: what pages show follows from this."""
    return permits(current_membership().role, endpoint)


def permits(role: Role, endpoint: str) -> bool:
    """Whether the table lets a role use an endpoint."""
    return role in TABLE[endpoint].roles


def memberships() -> list[Membership]:
    """All of the signed-in user's, the oldest organization first."""
    return [Membership(*one) for one in web_session.require().memberships]


def _require_member(org_id: UUID) -> Membership:
    for membership in memberships():
        if membership.organization.org_id == org_id:
            return membership
    raise NotFound

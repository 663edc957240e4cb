"""Stage 4: `Caller → Grant`. May this key ask this, and with whose provider key does it go up?

All from memory: key, organization and sealed credentials came with the `Caller`. Order: standing of key and
organization, then scope, then provider, then credential. A key that is unknown, revoked or expired is told
the same thing.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Final

from gateway.api_request import APIRequest
from gateway.authenticate import Caller, unauthenticated
from gateway.breaker import Key
from gateway.named_once import refuse_second_model
from gateway.operations import OperationKind
from gateway.other_models import refuse_other_models
from gateway.provider import Provider
from gateway.refusal import Dialect, Kind, Refusal
from storage.model import CredentialKind, Route, RouteTarget, SealedCredential

# Members used per request, bound once: until Python 3.12 reaching one through its class costs 0.2 µs.
_BYOK: Final = CredentialKind.BYOK
_PLATFORM: Final = CredentialKind.PLATFORM
_ELSEWHERE: Final = OperationKind.ELSEWHERE
# Where a body may go on from what is kept: it is read for that, unless it says that it is something else.
_KEEPING: Final = ("/v1/messages", "/v1/responses")
# The members of a body that may name further models (`other_models`).
_MORE_MODELS: Final = (b'"fallbacks"', b'"models"', b'"tools"')


class Grant:
    """Permission for one request to go to one provider with one credential."""

    __slots__ = (
        "caller",
        "first_byte_seconds",
        "hides_account",
        "kind",
        "model",
        "provider",
        "request",
        "routed",
        "sealed",
    )

    def __init__(
        self,
        caller: Caller,
        request: APIRequest,
        provider: Provider,
        kind: CredentialKind,
        sealed: SealedCredential | None,
        target: RouteTarget | None = None,
        *,
        hides_account: bool = False,
    ) -> None:
        self.caller = caller
        self.request = request
        self.provider = provider
        self.kind = kind
        self.sealed = sealed
        self.model = request.model if target is None else target.model
        """What the provider calls it; the request has the name that was asked for."""
        self.first_byte_seconds = None if target is None else target.first_byte_seconds
        """How long the answer may take to begin, where its route says so."""
        self.routed = target is not None
        self.hides_account = hides_account
        """It goes by an account that is shared: neither side is told, or tells, which part of it."""

    def of(self, request: APIRequest, model: str | None) -> Grant:
        """The same for another request, whose model the provider calls so."""
        grant = Grant(
            self.caller, request, self.provider, self.kind, self.sealed, hides_account=self.hides_account
        )
        grant.model = model
        return grant

    @property
    def account(self) -> Key:
        """What at its provider this goes up with: a breaker's key."""
        return self.provider.name if self.sealed is None else self.sealed.credential_id


class Upstreams:
    """Which provider serves which dialect, for live keys and for test keys."""

    __slots__ = ("by_name", "live", "shared_account", "simulated")

    def __init__(
        self,
        *,
        live: Mapping[Dialect, Provider],
        by_name: Mapping[str, Provider],
        simulated: Mapping[Dialect, Provider],
        shared_account: bool,
    ) -> None:
        self.live = live
        self.by_name = by_name
        """All there are, for routes."""
        self.simulated = simulated
        self.shared_account = shared_account
        """The platform's provider account serves several tenants: only stateless operations may use it."""


def authorize(caller: Caller, request: APIRequest, upstreams: Upstreams, now: float) -> Grant:
    """Decide. `now` is seconds since the epoch. Raises `Refusal`."""
    check_standing(caller, now)
    _check_model(caller, request)
    if caller.has_budget:
        _check_billing(caller, request)
    return choose_credential(caller, request, upstreams)


def authorize_route(
    caller: Caller, request: APIRequest, route: Route, upstreams: Upstreams, now: float
) -> list[Grant]:
    """The same for a request whose model's name is a route's: a grant for each target that can be used, in
    the order of trying. Raises `Refusal` when there is none.

    A scope on models holds for the name that was asked for: what it stands for is the organization's choice.
    """
    check_standing(caller, now)
    _check_model(caller, request)
    if caller.has_budget:
        _check_billing(caller, request)
    grants = []
    reason = "its providers do not speak this API, or have no base URL here"
    for target in in_order(route.targets):
        provider = upstreams.by_name.get(target.provider)
        if provider is None or provider.dialect is not request.dialect:
            continue
        try:
            grants.append(_choose_at(provider, caller, request, upstreams, target))
        except Refusal as refusal:
            reason = refusal.message
    if not grants:
        raise Refusal(Kind.FORBIDDEN, f"No target of the route {route.alias!r} can be used: {reason}")
    return grants


def authorize_on(opened: Grant, request: APIRequest, upstreams: Upstreams, now: float) -> Grant:
    """The same for what is asked on a connection that is open, as a socket is: it goes where that goes, with
    the same key. Raises `Refusal`, also for a model that leads to another provider."""
    caller, model = opened.caller, request.model
    if opened.hides_account:
        _refuse_kept(request)
    if opened.routed and model == opened.request.model:
        # The target it was opened for, even if the route has changed since.
        check_standing(caller, now)
        _check_model(caller, request)
        if caller.has_budget or (caller.has_credit and opened.kind is _PLATFORM):
            _check_billing(caller, request)
        return opened.of(request, opened.model)
    route = None if caller.routes is None or model is None else caller.routes.get(model)
    if route is None:
        found = [authorize(caller, request, upstreams, now)]
        if not opened.routed:
            return opened.of(request, model)
    else:
        found = authorize_route(caller, request, route, upstreams, now)
    for grant in found:
        if grant.provider is opened.provider and grant.kind is opened.kind:
            return opened.of(request, grant.model)
    raise Refusal(
        Kind.FORBIDDEN,
        f"This socket is open to {opened.provider.name}, and {model!r} leads elsewhere: open another one "
        "with ?model= and that name.",
    )


def in_order(targets: Sequence[RouteTarget]) -> list[RouteTarget]:
    """As they are written; of neighbours with a weight, by drawing lots."""
    ordered: list[RouteTarget] = []
    for _, group in groupby(targets, lambda target: target.weight is not None):
        ordered += sorted(group, key=_lot)
    return ordered


def _lot(target: RouteTarget) -> float:
    """Efraimidis and Spirakis: the largest of u^(1/w) is drawn first with the chance of its weight."""
    return 0.0 if target.weight is None else -(random.random() ** (1 / target.weight))  # noqa: S311


def check_standing(caller: Caller, now: float) -> None:
    """The key is live now and its organization in good standing."""
    if now >= caller.valid_until:
        raise unauthenticated()
    if not caller.active:
        raise Refusal(
            Kind.FORBIDDEN, "This organization is suspended; its owner can see why in the admin pages."
        )


def choose_credential(caller: Caller, request: APIRequest, upstreams: Upstreams) -> Grant:
    """The provider for the dialect, and the organization's own key for it or else the platform's."""
    if caller.simulated:
        provider = upstreams.simulated.get(request.dialect)
        if provider is None:
            raise Refusal(
                Kind.UNAVAILABLE,
                "Test keys need a simulated provider: set KARTA_SIMULATED_BASE_URL.",
                retry_after=60,
            )
        return Grant(caller, request, provider, CredentialKind.SIMULATED, None)
    return _choose_at(upstreams.live[request.dialect], caller, request, upstreams, None)


def _choose_at(
    provider: Provider,
    caller: Caller,
    request: APIRequest,
    upstreams: Upstreams,
    target: RouteTarget | None,
) -> Grant:
    """Whose key goes to that provider: the organization's own, or else the platform's, unless the target
    says which."""
    only = None if target is None else target.credential
    if caller.allows_byok and only is not _PLATFORM:
        for sealed in caller.key.credentials:
            if sealed.provider == provider.name:
                return Grant(caller, request, provider, _BYOK, sealed, target)
    if caller.suspended and provider.name in caller.suspended and only is not _PLATFORM:
        # Not by the platform's account instead: nothing goes another way than the one that was chosen.
        raise Refusal(
            Kind.FORBIDDEN,
            f"The organization's own key for {provider.name} is suspended, because its plan has none: change "
            "the plan, or revoke that key to go on with the platform's.",
        )
    if provider.platform_key is None or only is _BYOK:
        raise Refusal(
            Kind.FORBIDDEN,
            f"No provider key for {provider.name}: set the organization's own with `karta byok set`.",
        )
    if upstreams.shared_account:
        if not request.operation.stateless:
            raise Refusal(
                Kind.FORBIDDEN,
                "This operation reads or writes the provider's account, which the platform's key shares "
                "between organizations: set the organization's own key with `karta byok set`.",
            )
        _refuse_kept(request)
    if caller.has_credit:
        _check_billing(caller, request)
    return Grant(caller, request, provider, _PLATFORM, None, target, hides_account=upstreams.shared_account)


def _refuse_kept(request: APIRequest) -> None:
    """On an account that several organizations share: what it goes on from may be anybody's."""
    if request.by_reference and not request.answered_here:
        raise Refusal(
            Kind.FORBIDDEN,
            "This request goes on from what is kept in the provider's account (an earlier response, a "
            "conversation, a thread or a container), which the platform's key shares between organizations: "
            "send what is in it, or set the organization's own key with `karta byok set`.",
        )
    if not (request.json or request.buffered) and request.operation.path.startswith(_KEEPING):
        raise Refusal(Kind.FORBIDDEN, "Send this body with `content-type: application/json`.")


def _check_billing(caller: Caller, request: APIRequest) -> None:
    """What is billed elsewhere (batches, agents, fine-tuning, videos) or later (background responses) tells
    nothing of its cost when it is asked for: under a hard budget, or paid in advance, it would be a way round
    that.
    """
    later = request.operation.kind is _ELSEWHERE or request.in_background
    if later and not caller.key.billed_elsewhere:
        raise Refusal(
            Kind.FORBIDDEN,
            "What this costs is not told in its answer, and a hard budget or prepaid credit holds for this "
            "key: allow it with `karta keys allow KEY_ID "
            "--billed-elsewhere`, or make the budget soft.",
        )


def _check_model(caller: Caller, request: APIRequest) -> None:
    """Of a key whose scope names models: each that the request would run is among them."""
    allowed = caller.key.allowed_models
    if allowed is None:
        return
    operation = request.operation
    if operation.runs_unnamed:
        raise Refusal(
            Kind.MODEL_FORBIDDEN,
            "This key's scope names models, and this operation runs ones that Karta does not read of its "
            "request: use a key whose scope names none.",
        )
    if not operation.metered:
        return
    model = request.model
    if model is None or model not in allowed:
        raise Refusal(Kind.MODEL_FORBIDDEN, "This key may not use that model; its scope names others.")
    if request.boundary:
        # It was read only because it names one, and no other.
        return
    body = request.body
    disguised = body.find(b"\\u00") >= 0
    if disguised or body.count(b'"model"') > 1:
        refuse_second_model(body)
    if disguised or any(body.find(member) >= 0 for member in _MORE_MODELS):
        refuse_other_models(body, allowed)

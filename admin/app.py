"""Puts the app together: what stands before and after every view, the features, and the error pages."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import TracebackType
from typing import Any

from quart import redirect, request, url_for
from quart.typing import ResponseReturnValue
from quart_trio import QuartTrio
from quart_trio.wrappers import TrioRequest
from werkzeug.exceptions import HTTPException, InternalServerError

from admin import api_path, authorization, csrf, faults, refusals, rendering, transport, web_session, wording
from admin.accounts import links, profile, reset, sign_up
from admin.accounts import views as accounts
from admin.accounts.password_check import TooManyChecks
from admin.audit import views as audit
from admin.billing import checkout_views as payments
from admin.billing import plan_views as plan
from admin.billing import statement_views as statement
from admin.billing import webhook as stripe_webhook
from admin.connection import Connection
from admin.incidents import views as incidents
from admin.keys import minting, scopes
from admin.keys import views as keys
from admin.limits import views as limits
from admin.mail_preferences import views as mail_preferences
from admin.management_api import problems
from admin.management_api import views as management_api
from admin.management_keys import views as management_keys
from admin.mfa import factors, second_factor
from admin.organizations import members
from admin.organizations import views as organizations
from admin.outbox import views as outbox
from admin.pending_sign_in import NothingPending
from admin.proof import views as proof
from admin.provider_keys import views as provider_keys
from admin.rendering import render_template
from admin.reports import views as reports
from admin.services import NoMasterKey, Services
from admin.staff import payment_events
from admin.staff import views as staff
from admin.status import views as status
from admin.suppressions import views as suppressions
from admin.suppressions import webhook as postmark_webhook
from admin.throttle import Throttled
from admin.trust import abuse, subscribe
from admin.trust import views as trust
from admin.usage import requests
from admin.usage import views as usage
from admin.webhooks import log as webhook_log
from admin.webhooks import views as webhooks
from storage.errors import DatabaseUnavailable, InvalidValue, NotAllowed, PlanRefused, SessionEnded
from storage.fault_place import describe
from storage.plan_terms import allows as plan_allows

_log = logging.getLogger("karta.admin")

FORM_BYTES_MAX = 64 * 1024
"""The largest form is a sign-in with the longest password, percent-encoded: about 15 KiB."""
BODY_SECONDS_MAX = 10
STATIC_SECONDS = 3600

FEATURES = (
    *(transport.blueprint, accounts.blueprint, links.blueprint, sign_up.blueprint, reset.blueprint),
    *(mail_preferences.blueprint, suppressions.blueprint, postmark_webhook.blueprint),
    *(profile.blueprint, factors.blueprint, second_factor.blueprint, proof.blueprint, outbox.blueprint),
    *(organizations.blueprint, members.blueprint, keys.blueprint, minting.blueprint, scopes.blueprint),
    *(plan.blueprint, statement.blueprint, webhooks.blueprint, webhook_log.blueprint),
    *(limits.blueprint, provider_keys.blueprint, usage.blueprint, requests.blueprint),
    *(management_keys.blueprint, management_api.blueprint, staff.blueprint),
    *(incidents.blueprint, reports.blueprint, payment_events.blueprint),
    *(payments.blueprint, stripe_webhook.blueprint),
    *(audit.blueprint, trust.blueprint, subscribe.blueprint, abuse.blueprint, status.blueprint),
)

ERRORS = {
    400: (
        "That did not arrive whole",
        "Something in the request was not as expected. Go back and try again.",
    ),
    403: (
        "That form is no longer valid",
        "Open the page again and repeat what you did. Cookies must be allowed.",
    ),
    404: ("There is nothing here", "The address may be mistyped, or what was here belongs to somebody else."),
    405: ("That cannot be done here", "Go back and use the buttons of the page."),
    408: ("That took too long", "Try again."),
    413: ("That is too large", "Shorten what you entered, and try again."),
    429: ("Too many tries", "Wait {wait}, and try again."),
    503: ("The database does not answer", "Nothing was changed. Try again in a moment."),
}
"""What went wrong, in words, and the mend."""


ExceptionInfo = tuple[type, BaseException, TracebackType] | tuple[None, None, None]


class _Request(TrioRequest):
    def __init__(self, method: str, scheme: str, path: str, *others: Any, **named: Any) -> None:
        if path == stripe_webhook.PATH:
            named["max_content_length"] = stripe_webhook.BODY_BYTES_MAX
        super().__init__(method, scheme, path, *others, **named)


class _App(QuartTrio):
    asgi_http_class = Connection
    request_class = _Request
    jinja_environment = rendering.Environment  # type: ignore[assignment]

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._known_async: set[object] = set()

    def ensure_async(self, func: Callable[..., Any]) -> Callable[..., Any]:
        # Quart inspects every function of every request anew, though they are the same ones.
        if func in self._known_async:
            return func
        found = super().ensure_async(func)
        if found is func:
            self._known_async.add(func)
        return found

    def log_exception(self, exception_info: ExceptionInfo) -> None:
        # Quart's own words would be the path, which may hold a link's token, and the exception's message.
        error = exception_info[1]
        if error is not None:
            _log.error("%s %s failed: %s", request.method, request.endpoint, describe(error))
            faults.report(error)

    async def handle_user_exception(
        self, error: Exception | BaseExceptionGroup
    ) -> HTTPException | ResponseReturnValue:
        if api_path.is_api():
            return problems.answer(error)
        return await super().handle_user_exception(error)


def create_app(services: Services) -> QuartTrio:
    """The ASGI app."""
    app = _App("admin")
    app.config.update(
        MAX_CONTENT_LENGTH=FORM_BYTES_MAX,
        MAX_FORM_MEMORY_SIZE=FORM_BYTES_MAX,
        BODY_TIMEOUT=BODY_SECONDS_MAX,
        SEND_FILE_MAX_AGE_DEFAULT=STATIC_SECONDS,
    )
    services.attach(app.extensions)
    app.jinja_env.globals.update(
        url_for=rendering.url_for,
        nonce=transport.nonce,
        form_token=web_session.form_token,
        current_user=web_session.current_user,
        signed_in=web_session.current,
        outbox_is_shown=outbox.is_shown,
        membership=authorization.current_membership,
        memberships=authorization.memberships,
        allows=authorization.allows,
        permits=authorization.permits,
        fragment=rendering.fragment,
        plan_allows=plan_allows,
        problems={},
    )
    app.jinja_env.filters.update(wording.FILTERS)
    app.before_request(faults.note_begin)
    app.before_request(transport.require_transport)
    app.before_request(web_session.read_form)
    app.before_request(web_session.load_user)
    app.before_request(web_session.require_proof)
    app.before_request(authorization.require_access)
    app.after_request(web_session.keep_visitor)
    app.after_request(transport.add_headers)
    app.after_request(problems.add_request_id)
    app.after_request(faults.tell_times)
    app.after_request(refusals.note)
    for feature in FEATURES:
        app.register_blueprint(feature)
    _register_errors(app)
    return app


def _register_errors(app: QuartTrio) -> None:
    @app.errorhandler(transport.Misdirected)
    async def misdirected(_: Exception) -> ResponseReturnValue:
        return "This server does not go by that name.\n", 421

    @app.errorhandler(transport.PlainHTTP)
    async def plain_http(_: Exception) -> ResponseReturnValue:
        return "Use HTTPS.\n", 403

    @app.errorhandler(SessionEnded)
    @app.errorhandler(web_session.SignedOut)
    async def signed_out(_: Exception) -> ResponseReturnValue:
        wanted = request.full_path.rstrip("?") if request.method in csrf.SAFE_METHODS else "/"
        then = None if wanted == "/" else wanted
        return redirect(url_for("accounts.show_sign_in", next=then), code=303)

    @app.errorhandler(web_session.Forged)
    async def forged(_: Exception) -> ResponseReturnValue:
        return await _render(403)

    @app.errorhandler(NotAllowed)
    @app.errorhandler(authorization.Forbidden)
    async def forbidden(_: Exception) -> ResponseReturnValue:
        title, mend = "Your role does not allow that", "Ask an owner of the organization."
        return await render_template("error.html", title=title, mend=mend), 403

    @app.errorhandler(authorization.ProofNeeded)
    async def proof_needed(_: Exception) -> ResponseReturnValue:
        return await proof.prompt()

    @app.errorhandler(authorization.FactorNeeded)
    async def factor_needed(_: Exception) -> ResponseReturnValue:
        return redirect(url_for("factors.show", done="required"), code=303)

    @app.errorhandler(NothingPending)
    async def nothing_pending(_: Exception) -> ResponseReturnValue:
        return redirect(url_for("accounts.show_sign_in", reason="too-late"), code=303)

    @app.errorhandler(TooManyChecks)
    @app.errorhandler(Throttled)
    async def too_often(error: TooManyChecks | Throttled) -> ResponseReturnValue:
        seconds = error.retry_after_seconds
        page, code = await _render(429, wait=_describe_wait(seconds))
        return page, code, {"Retry-After": str(seconds)}

    @app.errorhandler(NoMasterKey)
    async def no_master_key(_: Exception) -> ResponseReturnValue:
        title = "Karta has no master key"
        mend = "Set KARTA_MASTER_KEYS or KARTA_MASTER_KEYS_FILE, and start the admin pages again."
        return await render_template("error.html", title=title, mend=mend), 503

    @app.errorhandler(PlanRefused)
    async def plan_refused(error: PlanRefused) -> ResponseReturnValue:
        text = str(error)
        title, mend = "The plan has no room for that", f"{text[0].upper()}{text[1:]}."
        return await render_template("error.html", title=title, mend=mend), 403

    @app.errorhandler(DatabaseUnavailable)
    async def no_database(_: Exception) -> ResponseReturnValue:
        return *(await _render(503)), {"Retry-After": "5"}

    app.register_error_handler(InvalidValue, _answer_unfit)

    @app.errorhandler(HTTPException)
    async def refused(error: HTTPException) -> ResponseReturnValue:
        if isinstance(error, InternalServerError):
            return problems.answer(error) if api_path.is_api() else await _render(500)
        response = error.get_response()
        kept = {name: value for name, value in response.headers.items() if name in ("Allow", "Location")}
        return *(await _render(error.code or 500)), kept


async def _answer_unfit(error: Exception) -> ResponseReturnValue:
    """A NUL in a path, say, which no view looks for. Logged, since a fault of ours looks the same."""
    _log.warning("%s %s: a value that no column holds: %s", request.method, request.endpoint, describe(error))
    return await _render(400)


async def _render(code: int, **words: str) -> tuple[str, int]:
    title, mend = ERRORS.get(code, ("Something went wrong", "It has been noted. Try again in a moment."))
    return await render_template(
        "error.html", title=title, mend=mend.format(**{"wait": "a little"} | words)
    ), code


def _describe_wait(seconds: int) -> str:
    if seconds < 60:
        return "a few seconds" if seconds < 10 else f"{seconds} seconds"
    minutes = -(-seconds // 60)
    return "a minute" if minutes == 1 else f"{minutes} minutes"

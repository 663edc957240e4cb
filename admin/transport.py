"""What goes on every answer, and what every request must come by: headers, HTTPS, and the right name of
this host.

The content security policy allows nothing by default; scripts run only with this answer's nonce, made of 128
random bits. Violations are reported to `/csp-report`, which reads little, keeps one row for each kind
(`storage.csp_violations`) and answers nothing.
"""

from __future__ import annotations

import json
import logging
import secrets
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

import msgspec
from quart import Blueprint, Response, g, redirect, request
from quart.typing import ResponseReturnValue

from admin import api_path, client_address
from admin.services import services
from storage.csp_violations import Violation, count_violation
from storage.errors import StorageError

NONCE_BYTES = 16
HSTS = "max-age=31536000; includeSubDomains; preload"
REPORT_PATH = "/csp-report"
REPORT_BYTES_MAX = 8 * 1024
REPORTS_PER_MINUTE_MAX = 20
"""Anybody may send reports: enough are logged to see that something is wrong."""
LOGGED_CHARS_MAX = 200
PAYING = frozenset({"billing", "payments", "proof"})
"""The features with forms that pay; `proof` sends them on."""
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not `no-referrer`: with that, browsers say `Origin: null` of our own forms.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=(), "
    "publickey-credentials-create=(self), publickey-credentials-get=(self)",
    "Reporting-Endpoints": f'csp="{REPORT_PATH}"',
}

blueprint = Blueprint("transport", __name__)


class Misdirected(Exception):
    """The request is for a host that is not ours."""


class PlainHTTP(Exception):
    """What was sent was sent in the clear, and is not to be repeated by a redirect."""


_log = logging.getLogger("karta.admin")


def content_security_policy(nonce: str | None, form_targets: Sequence[str] = ()) -> str:
    """The policy for one answer. Without a nonce there are no scripts: a page that caches keep has none.
    `form_targets` are other origins that a form of the page may lead to."""
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'none'" if nonce is None else f"script-src 'nonce-{nonce}'",
            "style-src 'self'",
            "img-src 'self' data:",
            "connect-src 'self'",
            " ".join(("form-action 'self'", *form_targets)),
            "base-uri 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            f"report-uri {REPORT_PATH}",
            "report-to csp",
        )
    )


def make_public(seconds: int) -> None:
    """Lets anybody's cache keep this answer: it is the same for all, and has neither script nor cookie."""
    g.public_seconds = seconds


def set_policy(policy: str) -> None:
    """Puts this answer under a content security policy of its own, for what is no page of ours."""
    g.policy = policy


def nonce() -> str:
    """This answer's script nonce."""
    if "nonce" not in g:
        g.nonce = secrets.token_urlsafe(NONCE_BYTES)
    return str(g.nonce)


async def require_transport() -> ResponseReturnValue | None:
    """Before each request: production speaks HTTPS only, and loopback has one name, the one cookies work
    on. Raises `Misdirected` and `PlainHTTP`."""
    settings = services().settings
    scheme = client_address.scheme(request, settings.trusted_proxies)
    if _is_status_name(request.host):
        return _only_status(scheme)
    if request.path in ("/healthz", REPORT_PATH):
        return None
    if not _is_our_name(request.host):
        # A name that was made to point here (DNS rebinding) would make strangers' pages ours.
        raise Misdirected
    if settings.env == "production" and scheme != "https":
        if api_path.is_api() or request.method not in ("GET", "HEAD"):
            raise PlainHTTP
        return redirect(f"https://{request.host}{request.full_path.rstrip('?')}", code=308)
    if api_path.is_api():
        return None
    name, colon, port = request.host.rpartition(":")
    if scheme == "http" and name in ("127.0.0.1", "[::1]") and request.method in ("GET", "HEAD"):
        # Browsers refuse secure cookies on http://127.0.0.1 and take them on http://localhost.
        return redirect(f"http://localhost{colon}{port}{request.full_path.rstrip('?')}", code=307)
    return None


def _is_status_name(host: str) -> bool:
    """Whether a request came for the status page's own name, where it has one."""
    own = services().settings.status_url
    return own is not None and own != services().origin and host.lower() == urlsplit(own).netloc


def _only_status(scheme: str) -> ResponseReturnValue | None:
    """Under the status page's name there is nothing else, so nobody signs in there."""
    settings, endpoint = services().settings, request.endpoint or ""
    if settings.env == "production" and scheme != "https":
        return redirect(f"https://{request.host}{request.full_path.rstrip('?')}", code=308)
    if request.path == "/":
        return redirect("/status", code=302)
    if endpoint.startswith("status.") or endpoint == "static":
        return None
    if request.method not in ("GET", "HEAD"):
        return "There is only the status page here.\n", 404
    return redirect(services().origin + request.full_path.rstrip("?"), code=302)


def _is_our_name(host: str) -> bool:
    """Whether a request may come for this host: the configured one; on loopback, any of its names."""
    origin = urlsplit(services().origin)
    if services().settings.admin_url is not None and origin.hostname not in LOOPBACK_NAMES:
        return host.lower() == origin.netloc
    name = host.lower().rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host.lower()
    return name in LOOPBACK_NAMES or origin.hostname not in LOOPBACK_NAMES


async def add_headers(response: Response) -> Response:
    """After each request, errors and static files too. Async, or Quart would run it in a thread."""
    for name, value in HEADERS.items():
        response.headers[name] = value
    public = g.get("public_seconds") if response.status_code in (200, 304) else None
    response.headers["Content-Security-Policy"] = g.get("policy") or content_security_policy(
        nonce() if public is None else None, _form_targets()
    )
    if public is not None:
        response.headers["Cache-Control"] = f"public, max-age={public}"
    elif request.endpoint != "static" or response.status_code not in (200, 206, 304):
        response.headers["Cache-Control"] = "no-store"
    if client_address.scheme(request, services().settings.trusted_proxies) == "https":
        response.headers["Strict-Transport-Security"] = HSTS
    return response


def _form_targets() -> Sequence[str]:
    """Forms that pay are answered by a redirect to Stripe's page, and browsers hold that against the form."""
    pays = services().payments.is_set_up and request.blueprint in PAYING
    return services().settings.stripe_pages if pays else ()


@blueprint.get("/healthz")
async def healthz() -> ResponseReturnValue:
    """The process answers."""
    return {"status": "ok"}


class _Reports:
    """Counts what was logged in the present minute."""

    minute = -1
    logged = 0


@blueprint.post(REPORT_PATH)
async def report_violation() -> ResponseReturnValue:
    """Takes a browser's report that something broke the policy."""
    body = await request.get_data(cache=False)
    minute = int(time.monotonic() // 60)
    if _Reports.minute != minute:
        _Reports.minute, _Reports.logged = minute, 0
    if len(body) <= REPORT_BYTES_MAX and _Reports.logged < REPORTS_PER_MINUTE_MAX:
        _Reports.logged += 1
        violation = read_report(body)
        if violation is None:
            _log.warning("content security policy violated: unreadable report")
            return "", 204
        # As JSON, so that no control character reaches the log.
        _log.warning("content security policy violated: %s", msgspec.json.encode(violation).decode())
        try:
            await count_violation(services().db, violation)
        except StorageError as error:
            _log.warning("the violation was not kept: %s", error)
    return "", 204


def read_report(body: str | bytes) -> Violation | None:
    """A report of either form that browsers send. Of addresses the query is left out: it may hold secrets."""
    try:
        report = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if isinstance(report, list):
        report = report[0].get("body") if report and isinstance(report[0], dict) else None
    elif isinstance(report, dict):
        report = report.get("csp-report")
    if not isinstance(report, dict):
        return None

    def find(*names: str) -> str:
        text = next((str(report[name]) for name in names if report.get(name)), "")
        return text.partition("?")[0].partition("#")[0][:LOGGED_CHARS_MAX]

    return Violation(
        directive=find("effectiveDirective", "effective-directive", "violated-directive"),
        blocked=find("blockedURL", "blocked-uri"),
        source=find("sourceFile", "source-file"),
        page=find("documentURL", "document-uri"),
    )

"""What goes on every answer, and what every request must come by: headers, HTTPS, and the right name of
this host.

The content security policy allows nothing by default; scripts run only with this answer's nonce, made of 128
random bits. Violations are reported to `/csp-report`, which reads little, logs little and answers nothing.
"""

from __future__ import annotations

import json
import logging
import secrets
import time
from urllib.parse import urlsplit

from quart import Blueprint, Response, g, redirect, request
from quart.typing import ResponseReturnValue

from admin import api_path, client_address
from admin.services import services

NONCE_BYTES = 16
HSTS = "max-age=31536000; includeSubDomains; preload"
REPORT_PATH = "/csp-report"
REPORT_BYTES_MAX = 8 * 1024
REPORTS_PER_MINUTE_MAX = 20
"""Anybody may send reports: enough are logged to see that something is wrong."""
LOGGED_CHARS_MAX = 200
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


def content_security_policy(nonce: str) -> str:
    """The policy for one answer."""
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src 'nonce-{nonce}'",
            "style-src 'self'",
            "img-src 'self' data:",
            "connect-src 'self'",
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            f"report-uri {REPORT_PATH}",
            "report-to csp",
        )
    )


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


def _is_our_name(host: str) -> bool:
    """Whether a request may come for this host: the configured one; on loopback, any of its names."""
    origin = urlsplit(services().origin)
    if services().settings.admin_url is not None and origin.hostname not in LOOPBACK_NAMES:
        return host.lower() == origin.netloc
    name = host.lower().rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host.lower()
    return name in LOOPBACK_NAMES or origin.hostname not in LOOPBACK_NAMES


def add_headers(response: Response) -> Response:
    """After each request, errors and static files too."""
    for name, value in HEADERS.items():
        response.headers[name] = value
    response.headers["Content-Security-Policy"] = content_security_policy(nonce())
    if request.endpoint != "static" or response.status_code not in (200, 206, 304):
        response.headers["Cache-Control"] = "no-store"
    if client_address.scheme(request, services().settings.trusted_proxies) == "https":
        response.headers["Strict-Transport-Security"] = HSTS
    return response


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
        _log.warning("content security policy violated: %s", _describe(body))
    return "", 204


def _describe(body: str | bytes) -> str:
    """Directive and place, as JSON so that no control character reaches the log."""
    try:
        report = json.loads(body)
    except ValueError:
        return "unreadable report"
    if isinstance(report, list):
        report = report[0].get("body", {}) if report and isinstance(report[0], dict) else {}
    elif isinstance(report, dict):
        report = report.get("csp-report", {})
    if not isinstance(report, dict):
        return "unreadable report"
    names = (
        "effectiveDirective",
        "effective-directive",
        "blockedURL",
        "blocked-uri",
        "sourceFile",
        "source-file",
    )
    told = {name: str(report[name])[:LOGGED_CHARS_MAX] for name in names if name in report}
    return json.dumps(told)

"""What Sentry is told of the admin pages, where somebody wants that: faults nobody expected, with whose
request it was, and the times of a share of the requests.

Never a path, a query, a form or a header: an address may hold a link's token, so a request is named by its
endpoint.
"""

from __future__ import annotations

import random
import secrets
import time

from quart import Response, g, has_request_context, request

from admin import api_path
from admin.services import services
from storage import error_reports


def report(error: BaseException) -> None:
    """Tell of a fault, as that of the current request if there is one."""
    user, tags = _whose() if has_request_context() else (None, {})
    error_reports.report(error, {"place": "karta.admin", **tags}, user=user)


async def note_begin() -> None:
    """Before each request."""
    g.began = time.time()


async def tell_times(response: Response) -> Response:
    """After each request: a share of them is told."""
    began = g.get("began")
    # A die, no secret.
    if began is not None and random.random() * 100 < services().settings.sentry_traces_percent:  # noqa: S311
        user, tags = _whose()
        good = "ok" if response.status_code < 400 else "invalid_argument"
        status = "internal_error" if response.status_code >= 500 else good
        trace = {
            "op": "http.server",
            "trace_id": secrets.token_hex(16),
            "span_id": secrets.token_hex(8),
            "status": status,
        }
        error_reports.send_transaction(
            {
                # A method that no rule knows is a stranger's word.
                "transaction": f"{request.method} {request.endpoint}"
                if request.endpoint
                else "nothing there",
                "start_timestamp": began,
                "timestamp": time.time(),
                "contexts": {"trace": trace},
                "user": {} if user is None else {"id": user},
                "tags": {**tags, "status": str(response.status_code)},
            }
        )
    return response


def _whose() -> tuple[str | None, dict[str, str]]:
    """Who asked, and the tags of the current request; as far as it has come to be known."""
    tags: dict[str, str] = {"endpoint": request.endpoint or "none"}
    if api_path.is_api():
        if "request_id" in g:
            tags["request_id"] = str(g.request_id)
        if (acting := g.get("acting")) is None:
            return None, tags
        key = acting.key
        return key.key_id, tags | {
            "organization": str(key.org_id),
            "role": f"management_key:{key.role.value}",
        }
    if (signed_in := g.get("signed_in")) is None:
        return None, tags
    if (membership := g.get("membership")) is not None:
        tags |= {"organization": str(membership.organization.org_id), "role": membership.role.value}
    elif signed_in.is_staff:
        tags["role"] = "staff"
    return str(signed_in.user.user_id), tags

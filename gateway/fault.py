"""How an exception nobody expected is told: in the log, and to Sentry where somebody wants that (storage's
`error_reports`). What kind, and where, and not a word more.

Its message may quote a request, a key or a row, and logs go to places where none of these may.
"""

from __future__ import annotations

from logging import Logger
from typing import TYPE_CHECKING

from storage import error_reports
from storage.fault_place import describe

if TYPE_CHECKING:
    from gateway.authorize import Grant


def tell(
    log: Logger,
    error: BaseException,
    message: str,
    *arguments: object,
    request_id: str | None = None,
    grant: Grant | None = None,
) -> None:
    """Log a fault of Karta's own and report it. `message` takes `arguments`; neither may hold a stranger's
    words. `grant` says for whom it happened."""
    log.error(f"{message}: %s", *arguments, describe(error))
    if grant is None:
        error_reports.report(error, {"place": log.name, "request_id": request_id})
        return
    key = grant.caller.key
    tags = {
        "organization": str(key.org_id),
        "role": "api_key",
        "place": log.name,
        "request_id": request_id,
        "endpoint": grant.request.operation.path,
    }
    error_reports.report(error, tags, user=key.key_id)

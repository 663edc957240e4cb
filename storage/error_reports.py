"""Faults, and a share of what requests took, told to Sentry: where `KARTA_SENTRY_DSN` says so.

One reporter a process: `begin` makes it, `report` tells of an exception, `send_transaction` of something
that took its time, `finish` sends what waits and ends it. Where nobody has begun, all of them do nothing, and
the SDK is not even imported. This is its only importer. It gets no integrations, so it changes nothing of the
process: an event is what Karta hands over, made anew by `report_form` before it goes.

Bounds: `REPORTS_MAX` reports a minute, the rest is counted and told with the next; the SDK's queue has 100
places; its thread sends, and `finish` waits `FINISH_SECONDS_MAX` for it. A Sentry that is away costs reports.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storage.report_form import Event, no_breadcrumb, reform

if TYPE_CHECKING:
    import sentry_sdk

    from storage.settings import CommonSettings

REPORTS_MAX = 30
"""A fault that comes with every request is understood by then, and telling it costs a millisecond."""
PERIOD_SECONDS = 60.0
FINISH_SECONDS_MAX = 2.0
_CHAIN_MAX = 20

_reporter: _Reporter | None = None


def begin(settings: CommonSettings, program: str) -> None:
    """Report from now on, if the settings want it. `program` becomes a tag."""
    global _reporter
    if settings.sentry_dsn is not None and _reporter is None:
        _reporter = _Reporter(_make_client(settings), program)


def report(
    error: BaseException,
    tags: Mapping[str, str | None] | None = None,
    *,
    user: str | None = None,
    handled: bool = True,
) -> None:
    """Tell of a fault. Never waits, never raises. The names of tags are `report_form.TAGS`."""
    if _reporter is not None:
        _reporter.report(error, user, handled, tags or {})


def send_transaction(event: Event) -> None:
    """Tell what something took: Sentry's transaction event, of Karta's own words. Never waits or raises."""
    if _reporter is not None:
        _reporter.send({"type": "transaction", **event})


def finish() -> None:
    """Send what waits, for a while, and report no more."""
    global _reporter
    reporter, _reporter = _reporter, None
    if reporter is not None:
        reporter.client.close(timeout=FINISH_SECONDS_MAX)


class _Reporter:
    def __init__(self, client: sentry_sdk.Client, program: str) -> None:
        self.client = client
        self._program = program
        self._period_ends = 0.0
        self._left = REPORTS_MAX

    def report(
        self, error: BaseException, user: str | None, handled: bool, tags: Mapping[str, str | None]
    ) -> None:
        from sentry_sdk.utils import capture_internal_exceptions, event_from_exception

        if not self._may():
            return
        with capture_internal_exceptions():
            event, _ = event_from_exception(error, self.client.options, {"type": "karta", "handled": handled})
            given = {**_codes(error), **tags}
            event["tags"] = {name: value for name, value in given.items() if value is not None}
            if user is not None:
                event["user"] = {"id": user}
            if not handled:
                event["level"] = "fatal"
            self.send(event)

    def send(self, event: Mapping[str, Any]) -> None:
        from sentry_sdk.utils import capture_internal_exceptions

        with capture_internal_exceptions():
            tags = {"program": self._program, **event.get("tags", {})}
            self.client.capture_event({**event, "tags": tags})  # type: ignore[typeddict-item]

    def _may(self) -> bool:
        now = time.monotonic()
        if now >= self._period_ends:
            self._period_ends = now + PERIOD_SECONDS
            self._left = REPORTS_MAX
        self._left -= 1
        return self._left >= 0


def _make_client(settings: CommonSettings) -> sentry_sdk.Client:
    """Every option that the SDK would else take from the environment, or that would take more than we give,
    is said; but `send_default_pii`, which is False where it is not said, and warns where it is."""
    from importlib.metadata import version

    import sentry_sdk

    assert settings.sentry_dsn is not None
    return sentry_sdk.Client(
        dsn=settings.sentry_dsn.get_secret_value(),
        release=f"karta@{version('karta')}",
        environment=settings.sentry_environment or settings.env,
        before_send=reform,  # type: ignore[arg-type]
        before_send_transaction=reform,  # type: ignore[arg-type]
        before_breadcrumb=no_breadcrumb,
        default_integrations=False,
        auto_enabling_integrations=False,
        integrations=[],
        include_local_variables=False,
        include_source_context=False,
        max_request_body_size="never",
        max_breadcrumbs=0,
        attach_stacktrace=False,
        auto_session_tracking=False,
        enable_backpressure_handling=False,
        propagate_traces=False,
        send_client_reports=False,
        traces_sample_rate=None,
        spotlight=False,
        debug=False,
        shutdown_timeout=FINISH_SECONDS_MAX,
        project_root=str(Path(__file__).parent.parent),
        in_app_include=["karta", "gateway", "admin", "storage"],
    )


def _codes(error: BaseException) -> dict[str, str | None]:
    """What an error says in a code instead of words: PostgreSQL's, and the system's."""
    codes: dict[str, str | None] = {}
    for one in _chain(error):
        sqlstate, errno = getattr(one, "sqlstate", None), getattr(one, "errno", None)
        if isinstance(sqlstate, str):
            codes.setdefault("sqlstate", sqlstate)
        if isinstance(errno, int):
            codes.setdefault("errno", str(errno))
    return codes


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception, those it groups, and what caused each."""
    waiting, seen = [error], 0
    while waiting and seen < _CHAIN_MAX:
        one = waiting.pop(0)
        seen += 1
        yield one
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions
        waiting += [cause for cause in (one.__cause__, one.__context__) if cause is not None]

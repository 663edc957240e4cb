"""The last step of stage 4: what a request may use at most is set apart before it goes up, or it is refused.

Order: `reserve_now` where nothing may wait (the lane), `reserve` where a refill may be waited for (the
pipeline). A key without hard limits costs one look at an empty tuple. What is reserved here is settled by
`meter` to what was really used.

A limit in requests, tokens or streams at once is told as 429 with the rate-limit headers of the dialect and a
`retry-after`; a spent budget as each API tells it, so that no SDK tries again: Anthropic 402 `billing_error`,
OpenAI 429 `insufficient_quota`. Trouble of Karta's own (no database to ask) is 503.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from gateway.authorize import Grant
from gateway.other_models import Unreadable, other_models
from gateway.price_table import tier_of
from gateway.prices import Prices
from gateway.quota import Reason, Shortage
from gateway.refill import Refill
from gateway.refusal import Dialect, Kind, Refusal
from gateway.reservation import Reservation
from gateway.usage_figures import RUNS_MAX
from gateway.worst_case import (
    InputEstimate,
    answers,
    estimate_input,
    estimate_upload,
    prompts_and_best_of,
    worst_case,
)
from storage.model import CredentialKind, Limit, LimitKind, Period

# Members used per request, bound once: until Python 3.12 reaching one through its class costs 0.2 µs.
_PLATFORM: Final = CredentialKind.PLATFORM
# OpenAI's SDK does not try again at all when it is told to wait longer.
_RETRY_AFTER_SECONDS_MAX: Final = 120
# A form whose length is not told is taken for the largest recording either API accepts.
_UPLOAD_BYTES_UNTOLD: Final = 25 * 1024 * 1024
_COMPLETIONS: Final = "/v1/completions"
_EMBEDDINGS: Final = "/v1/embeddings"
# More is refused by every provider.
_OUTPUT_TOKENS_MAX: Final = 10**9
_PICODOLLARS: Final = 10**12

_CREDIT_SPENT: Final = (
    "This organization's credit is spent, or set apart by requests that run: top it up on its page Plan and "
    "billing, or set the organization's own provider key with `karta byok set`."
)

_HEADER_WORDS: Final = {LimitKind.REQUESTS: "requests", LimitKind.TOKENS: "tokens"}
_PERIODS: Final = {Period.MINUTE: "this minute", Period.DAY: "today", Period.MONTH: "this month"}


class Admission:
    """The limits of one worker, as requests meet them."""

    def __init__(self, refill: Refill, prices: Prices, output_tokens_default: int) -> None:
        self._refill = refill
        self._prices = prices
        self._output_tokens_default = output_tokens_default

    def reserve_now(self, grant: Grant, started_us: int) -> Reservation | None:
        """None for a key without hard limits. Raises `Refusal` also where waiting might have helped.

        `started_us` is when the request began, in microseconds since 1970, as its usage row will say it:
        limit and row must fall into one window.
        """
        caller = grant.caller
        limits = caller.hard_limits if grant.kind is _PLATFORM else caller.own_hard_limits
        if not limits:
            return None
        tokens, picodollars = self._need(grant, started_us)
        model = grant.request.model
        found = self._refill.ledger.reserve(limits, model, started_us, tokens, picodollars)
        return self._taken(found, grant, started_us)

    async def reserve(
        self, grant: Grant, started_us: int, others: Sequence[Grant] = ()
    ) -> Reservation | None:
        """The same, waiting (a bounded time) for what the database may still lend. `others` are targets that
        may be asked instead: the dearest of all counts."""
        caller = grant.caller
        limits = caller.own_hard_limits
        if caller.has_credit and any(one.kind is _PLATFORM for one in (grant, *others)):
            limits = caller.hard_limits
        if not limits:
            return None
        tokens, picodollars = map(
            max, zip(*(self._need(one, started_us) for one in (grant, *others)), strict=True)
        )
        found = await self._refill.reserve(limits, grant.request.model, started_us, tokens, picodollars)
        return self._taken(found, grant, started_us)

    def _need(self, grant: Grant, started_us: int) -> tuple[int, int]:
        """Tokens and picodollars this may come to at most."""
        request = grant.request
        if not grant.caller.limits_use or not request.operation.metered:
            return 0, 0
        fields = request.fields
        choices = 1 if fields.n is None else answers(fields.n)
        model = grant.model
        if request.json and request.buffered:
            several = fields.fallbacks is not None
            given = estimate_input(request.body, by_reference=request.by_reference or several)
            path = request.operation.path
            if path == _COMPLETIONS:
                prompts, best_of = prompts_and_best_of(request.body)
                choices = prompts * max(choices, best_of)
                given.in_parts = prompts > 1
            elif path == _EMBEDDINGS:
                given.in_parts = True
            if several or given.advised:
                return self._need_of_several(grant, given, choices, started_us)
        else:
            told = len(request.body) if request.buffered else request.content_length
            given = estimate_upload(told if told >= 0 else _UPLOAD_BYTES_UNTOLD)
            if request.boundary:
                # Whatever its model: how long a recording is its bytes do not say, and where the answer tells
                # no figures, as one of plain text, they are charged as those of a model that nobody knows.
                model = None
        most = self._output_tokens_max(grant)
        return self._need_of_model(grant, model, given, most, choices, started_us)

    def _need_of_model(
        self,
        grant: Grant,
        model: str | None,
        given: InputEstimate,
        output_tokens_max: int,
        choices: int,
        started_us: int,
    ) -> tuple[int, int]:
        """The same of what one model may read and say; None is one that nobody knows."""
        tier = grant.request.fields.service_tier
        table = self._prices.table(
            grant.caller.key.org_id,
            grant.provider.name,
            model,
            None,
            tier_of(tier if isinstance(tier, str) else None),
            started_us / 1_000_000,
        )
        picodollars, tokens = worst_case(
            table, given, output_tokens_max, unknown_rate=self._prices.unknown_rate, choices=choices
        )
        return tokens, picodollars

    def _need_of_several(
        self, grant: Grant, given: InputEstimate, choices: int, started_us: int
    ) -> tuple[int, int]:
        """Of a request that names further models: as if the dearest of them read and said it all."""
        most = self._output_tokens_max(grant)
        models = [grant.model]
        try:
            found = other_models(grant.request.body)
        except Unreadable:
            # So will the provider find it.
            pass
        else:
            models += list(found.names)[:RUNS_MAX]
            if len(found.names) > RUNS_MAX:
                models.append(None)
            most = max(most, math.ceil(min(found.output_tokens_max, _OUTPUT_TOKENS_MAX)))
        if given.advised:
            # It says as much as it likes, unless each is told otherwise.
            most = max(most, self._output_tokens_default)
        needs = [self._need_of_model(grant, model, given, most, choices, started_us) for model in models]
        return max(tokens for tokens, _ in needs), max(picodollars for _, picodollars in needs)

    def _output_tokens_max(self, grant: Grant) -> int:
        """The largest that is told: which of them a provider heeds, it alone knows."""
        fields = grant.request.fields
        most = -1
        for told in (fields.max_tokens, fields.max_completion_tokens, fields.max_output_tokens):
            if told is None:
                continue
            if isinstance(told, float) and told >= 0:
                told = math.ceil(min(told, _OUTPUT_TOKENS_MAX))
            if isinstance(told, int):
                most = max(most, min(told, _OUTPUT_TOKENS_MAX))
        return most if most >= 0 else self._output_tokens_default

    def _taken(self, found: Reservation | Shortage, grant: Grant, started_us: int) -> Reservation:
        if isinstance(found, Reservation):
            return found
        raise self._refusal(found, grant, started_us)

    def _refusal(self, shortage: Shortage, grant: Grant, started_us: int) -> Refusal:
        limit = shortage.limit
        dialect = grant.request.dialect
        if shortage.reason in (Reason.UNAVAILABLE, Reason.ASK):
            message = "Karta cannot ask for this key's limits; try again."
            return Refusal(Kind.UNAVAILABLE, message, retry_after=2)
        if limit.kind is LimitKind.MONEY:
            kind = Kind.BUDGET_SPENT if dialect is Dialect.ANTHROPIC else Kind.QUOTA_SPENT
            return Refusal(kind, _budget_message(shortage))
        if limit.kind is LimitKind.CREDIT:
            kind = Kind.BUDGET_SPENT if dialect is Dialect.ANTHROPIC else Kind.QUOTA_SPENT
            return Refusal(kind, _CREDIT_SPENT)
        if shortage.reason is Reason.TOO_LARGE:
            return Refusal(
                Kind.LIMIT_TOO_SMALL,
                f"This request alone may use more {limit.kind} than the limit of {limit.amount} for "
                f"{_whose(limit)}: ask for less, or "
                + ("change its plan." if limit.of_plan else "raise it with `karta limits set`."),
            )
        if limit.kind is LimitKind.CONCURRENT:
            message = f"{limit.amount} requests at once is the limit for {_whose(limit)}."
            return Refusal(Kind.RATE_LIMITED, message, retry_after=1)
        amount, period = f"{limit.amount} {limit.kind}", _PERIODS[limit.period]
        used_up = f"{_whose(limit).capitalize()} has used up {amount} {period}."
        if limit.of_plan:
            used_up = f"The plan's {amount} are used up {period}: wait, or change the plan."
        seconds = min(max(1, math.ceil(shortage.retry_after)), _RETRY_AFTER_SECONDS_MAX)
        return Refusal(
            Kind.RATE_LIMITED,
            used_up,
            retry_after=seconds,
            fields=self._fields(limit, dialect, started_us),
        )

    def _fields(self, limit: Limit, dialect: Dialect, started_us: int) -> tuple[str, ...]:
        """The header fields in which each API tells its own limits."""
        word = _HEADER_WORDS[limit.kind]
        left, seconds = self._refill.ledger.remaining(limit, started_us)
        left = min(left, limit.amount)
        if dialect is Dialect.ANTHROPIC:
            name = f"anthropic-ratelimit-{word}-"
            whole = datetime.fromtimestamp(math.ceil(started_us / 1_000_000 + seconds), UTC)
            reset = whole.strftime("%Y-%m-%dT%H:%M:%SZ")
            return (f"{name}limit: {limit.amount}", f"{name}remaining: {left}", f"{name}reset: {reset}")
        return (
            f"x-ratelimit-limit-{word}: {limit.amount}",
            f"x-ratelimit-remaining-{word}: {left}",
            f"x-ratelimit-reset-{word}: {math.ceil(seconds)}s",
        )


def _budget_message(shortage: Shortage) -> str:
    limit = shortage.limit
    budget = f"the budget of {_dollars(limit.amount)} for {_whose(limit)}"
    mend = "it is raised with `karta budget set`."
    if shortage.reason is Reason.TOO_LARGE:
        return f"This request alone may cost more than {budget}: ask for a smaller answer; {mend}"
    return f"Spent or reserved {_PERIODS[limit.period]}: {budget}; {mend}"


def _dollars(picodollars: int) -> str:
    """Cents at least, and nothing rounded away."""
    whole, rest = divmod(picodollars, _PICODOLLARS)
    return f"${whole}.{f'{rest:012}'.rstrip('0').ljust(2, '0')}"


def _whose(limit: Limit) -> str:
    if limit.of_plan:
        return "this organization's plan"
    owner = "this organization" if limit.key_id is None else "this key"
    return owner if limit.model is None else f"{owner} and this model"

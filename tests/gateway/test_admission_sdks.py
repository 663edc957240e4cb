"""What the official SDKs make of a limit: their own exceptions, and no second try at a spent budget."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import anthropic
import openai
import pytest
import trio

from storage.bridge import Database, open_database
from storage.model import LimitKind, Period
from tests.gateway.conftest import Stage, Tenant
from tests.gateway.limiting import limit_tenant
from tests.support.requests import ANSWER
from tests.support.scripted_provider import PATIENCE_SECONDS, answering

SAID: Any = [{"role": "user", "content": "hello"}]


@pytest.fixture
async def admin(own_tenant: Tenant) -> AsyncIterator[Database]:
    """The control plane's view of the tenant's own database."""
    async with open_database(own_tenant.database_url, role="karta_admin") as db:
        yield db


class Call:
    """A call of an SDK with its own number of retries, and the statuses of all its tries."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self.token = token
        self.statuses: list[int] = []

    def _record(self, response: Any) -> None:
        self.statuses.append(response.status_code)

    def anthropic(self) -> None:
        http = anthropic.DefaultHttpxClient(event_hooks={"response": [self._record]})
        with anthropic.Anthropic(base_url=self.url, api_key=self.token, http_client=http) as client:
            client.messages.create(model="claude-test", max_tokens=10, messages=SAID)

    def openai(self) -> None:
        http = openai.DefaultHttpxClient(event_hooks={"response": [self._record]})
        with openai.OpenAI(base_url=f"{self.url}/v1", api_key=self.token, http_client=http) as client:
            client.chat.completions.create(model="gpt-test", messages=SAID)


CALLS: dict[str, Callable[[Call], None]] = {"anthropic": Call.anthropic, "openai": Call.openai}
SDKS = pytest.mark.parametrize("sdk", list(CALLS))


async def caught(call: Call, sdk: str) -> Any:
    """What the SDK raises."""

    def run() -> Exception:
        with pytest.raises((anthropic.APIStatusError, openai.APIStatusError)) as found:
            CALLS[sdk](call)
        return found.value

    return await trio.to_thread.run_sync(run, abandon_on_cancel=True)


@SDKS
async def test_a_spent_budget_is_not_tried_again(
    sdk: str, stage: Stage, own_tenant: Tenant, admin: Database
) -> None:
    await limit_tenant(admin, own_tenant, LimitKind.MONEY, 1, Period.MONTH)
    async with stage(answering(ANSWER), of=own_tenant) as (gateway, provider):
        call = Call(gateway.url, own_tenant.token)
        error = await caught(call, sdk)
        assert provider.received == b""
    if sdk == "anthropic":
        assert type(error) is anthropic.PaymentRequiredError
        assert (error.status_code, error.type) == (402, "billing_error")
        assert call.statuses == [402]
    else:
        assert type(error) is openai.RateLimitError
        assert (error.code, error.type) == ("insufficient_quota", "insufficient_quota")
        assert call.statuses == [429]
    assert "karta budget set" in error.message
    assert error.request_id


@SDKS
async def test_a_request_too_large_for_its_limit_is_not_tried_again(
    sdk: str, stage: Stage, own_tenant: Tenant, admin: Database
) -> None:
    await limit_tenant(admin, own_tenant, LimitKind.TOKENS, 10, Period.MINUTE)
    async with stage(answering(ANSWER), of=own_tenant) as (gateway, _):
        call = Call(gateway.url, own_tenant.token)
        error = await caught(call, sdk)
    assert type(error).__name__ == "RateLimitError"
    assert call.statuses == [429]


@SDKS
async def test_an_exhausted_limit_is_tried_again_when_it_may_have_room(
    sdk: str, stage: Stage, own_tenant: Tenant, admin: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    # The SDKs sleep as they are told, which here is until the next minute.
    for module in (anthropic, openai):
        monkeypatch.setattr(
            module._base_client.SyncAPIClient,
            "_sleep_for_retry",
            lambda self, **told: waits.append(
                self._calculate_retry_timeout(
                    told["max_retries"] - told["retries_taken"], told["options"], told["response"].headers
                )
            ),
        )
    await limit_tenant(admin, own_tenant, LimitKind.REQUESTS, 1, Period.MINUTE)
    async with stage(answering(ANSWER), of=own_tenant) as (gateway, _):
        call = Call(gateway.url, own_tenant.token)
        with trio.fail_after(PATIENCE_SECONDS):
            # Whenever the minute turns, one request more is let through.
            while call.statuses[-3:] != [429, 429, 429]:
                with suppress(anthropic.RateLimitError, openai.RateLimitError):
                    await trio.to_thread.run_sync(CALLS[sdk], call, abandon_on_cancel=True)
    assert all(0 < wait <= 60 for wait in waits)

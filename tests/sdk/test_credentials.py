"""Whose key is seen by whom: the provider gets its own and never Karta's, the caller gets neither, whatever
header the key came in."""

from __future__ import annotations

import pytest

from tests.sdk.compare import Sides
from tests.sdk.servers import BYOK_KEY, PLATFORM_KEY, PROVIDER_KEYS, SIMULATED_KEY, Tenant
from tests.sdk.wire import RawAnswer, RawClient, request

BODY = b'{"model":"sim:tokens=1","max_tokens":1,"messages":[]}'
TYPED = ("content-type", "application/json")


def send(
    sides: Sides, path: str, headers: list[tuple[str, str]]
) -> tuple[RawAnswer, list[dict[str, object]]]:
    after = sides.provider.last_seq()
    with RawClient(sides.karta.url) as client:
        client.send(request("POST", path, [("host", client.host), TYPED, *headers], BODY))
        answer = client.read_answer()
    return answer, sides.provider.entries(after)


def check_nothing_shows(answer: RawAnswer, entries: list[dict[str, object]], token: str) -> None:
    shown = repr(answer)
    assert not [key for key in PROVIDER_KEYS if key in shown]
    assert token not in shown
    assert "kt_" not in repr(entries)


@pytest.mark.parametrize(
    ("path", "style", "expected"),
    [
        ("/v1/messages", "x-api-key", ("x-api-key", BYOK_KEY)),
        ("/v1/messages", "bearer", ("authorization", BYOK_KEY)),
        ("/anthropic/v1/messages", "x-api-key", ("x-api-key", BYOK_KEY)),
        ("/v1/chat/completions", "bearer", ("authorization", PLATFORM_KEY)),
        ("/v1/chat/completions", "x-api-key", ("authorization", PLATFORM_KEY)),
        ("/openai/v1/chat/completions", "bearer", ("authorization", PLATFORM_KEY)),
        ("/v1/messages", "both", ("authorization", BYOK_KEY)),
    ],
)
def test_the_provider_sees_its_own_key(
    sides: Sides, path: str, style: str, expected: tuple[str, str]
) -> None:
    token = sides.karta.key
    headers = {
        "x-api-key": [("x-api-key", token)],
        "bearer": [("authorization", f"Bearer {token}")],
        "both": [("x-api-key", token), ("authorization", f"bearer {token}")],
    }[style]
    answer, (entry,) = send(sides, path, headers)
    assert answer.status == 200
    assert (entry["credential_header"], entry["credential"]) == expected
    check_nothing_shows(answer, [entry], token)


def test_a_foreign_key_beside_ours_does_not_travel(sides: Sides) -> None:
    """An SDK may find a second key in its environment and send both."""
    foreign = "sk-ant-somebody-elses"
    for headers in (
        [("x-api-key", foreign), ("authorization", f"Bearer {sides.karta.key}")],
        [("x-api-key", sides.karta.key), ("authorization", f"Bearer {foreign}")],
    ):
        answer, (entry,) = send(sides, "/v1/messages", headers)
        assert answer.status == 200
        assert entry["credential"] == BYOK_KEY
        assert foreign not in repr(entry)


@pytest.mark.parametrize(
    "name",
    ["cookie", "proxy-authorization", "api-key", "x-goog-api-key", "X_Api_Key", "x-forwarded-authorization"],
)
def test_the_key_in_another_header_does_not_travel(sides: Sides, name: str) -> None:
    token = sides.karta.key
    answer, entries = send(
        sides, "/v1/chat/completions", [("authorization", f"Bearer {token}"), (name, token)]
    )
    check_nothing_shows(answer, entries, token)


def test_a_test_key_goes_to_the_simulated_provider(sides: Sides, tenant_database: tuple[str, Tenant]) -> None:
    token = tenant_database[1].test_token
    for path in ("/v1/messages", "/v1/chat/completions"):
        answer, (entry,) = send(sides, path, [("authorization", f"Bearer {token}")])
        assert answer.status == 200
        assert entry["credential"] == SIMULATED_KEY
        check_nothing_shows(answer, [entry], token)


@pytest.mark.parametrize("token", ["", "kt_live_", "sk-direct-0123456789abcdef", "kt_live_" + "A" * 46])
def test_without_a_key_of_ours_nothing_reaches_the_provider(sides: Sides, token: str) -> None:
    answer, entries = send(sides, "/v1/chat/completions", [("authorization", f"Bearer {token}")])
    assert answer.status == 401
    assert entries == []


def test_the_provider_refusing_its_key_tells_no_more_than_it_says_itself(sides: Sides) -> None:
    answer, entries = send(
        sides,
        "/v1/messages",
        [
            ("x-api-key", sides.karta.key),
            ("x-sim-behaviour", "error=401"),
            ("anthropic-version", "2023-06-01"),
        ],
    )
    assert answer.status == 401
    check_nothing_shows(answer, entries, sides.karta.key)

"""What is said of a URL that may not be registered."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import pytest

from admin import webhook_check
from admin.webhook_check import find_problem
from admin.webhooks.dialing import Dialer
from admin.webhooks.safe_address import Rules


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> dict[str, Sequence[str]]:
    found: dict[str, Sequence[str]] = {"good.example.com": ["8.8.8.8"], "bad.example.com": ["10.0.0.1"]}

    async def resolve(host: str, _: int) -> Sequence[str]:
        if host not in found:
            raise OSError
        return found[host]

    given = SimpleNamespace(webhooks=Dialer(Rules(), resolve=resolve))
    monkeypatch.setattr(webhook_check, "services", lambda: given)
    return found


@pytest.mark.usefixtures("answers")
async def test_what_is_wrong_is_said_in_a_sentence() -> None:
    assert await find_problem("https://good.example.com/x") is None
    for url, words in (
        ("http://good.example.com/", "Write it as https://"),
        ("https://good.example.com:22/", "The port is 443 or 8443."),
        ("https://bad.example.com/", "public internet alone."),
        ("https://nowhere.example.com/", "cannot be found."),
    ):
        problem = await find_problem(url)
        assert problem is not None
        assert words in problem
        assert "10.0.0.1" not in problem

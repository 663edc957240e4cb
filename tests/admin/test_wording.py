from __future__ import annotations

from datetime import UTC, datetime

import pytest

from admin.wording import browser, day, dollars, milliseconds, minute, second

MOMENT = datetime(2026, 3, 4, 5, 6, tzinfo=UTC)
CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36"


def test_times() -> None:
    assert day(MOMENT) == "4 Mar 2026"
    assert minute(MOMENT) == "4 Mar 2026, 05:06 UTC"
    assert second(MOMENT) == "4 Mar 2026, 05:06:00 UTC"


def test_how_long_something_took() -> None:
    told = [milliseconds(us) for us in (0, 400, 9_999, 12_000, 999_999, 3_210_000)]
    assert told == ["0.0 ms", "0.4 ms", "10.0 ms", "12 ms", "1000 ms", "3.2 s"]


@pytest.mark.parametrize(
    ("user_agent", "said"),
    [
        (CHROME, "Chrome on Linux"),
        (CHROME + " Edg/140.0", "Edge on Linux"),
        ("Mozilla/5.0 (Windows NT 10.0; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox on Windows"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) Version/19.0 Safari/604.1", "Safari on iOS"),
        ("python-httpx/0.28", "python-httpx/0.28"),
        ("x" * 100, "x" * 40),
        (None, "Unknown"),
        ("", "Unknown"),
    ],
)
def test_browsers(user_agent: str | None, said: str) -> None:
    assert browser(user_agent) == said


@pytest.mark.parametrize(
    ("picodollars", "said"),
    [
        (0, "$0.00"),
        (1_234_500_000_000_000, "$1,234.50"),
        (10_000_000_000, "$0.01"),
        (124_000_000, "$0.000124"),
        (1_000_000, "$0.000001"),
        (999_999, "<$0.000001"),
    ],
)
def test_money(picodollars: int, said: str) -> None:
    assert dollars(picodollars) == said

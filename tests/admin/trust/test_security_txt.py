from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from admin.trust.security_txt import write

FIELDS = {
    "Contact",
    "Expires",
    "Encryption",
    "Acknowledgments",
    "Preferred-Languages",
    "Canonical",
    "Policy",
    "Hiring",
}


def test_each_line_is_a_field_of_the_rfc() -> None:
    now = datetime(2026, 12, 31, 23, 59, tzinfo=UTC)
    text = write(
        "https://karta.example.com", ["mailto:a@example.com", "https://karta.example.com/abuse"], now
    )
    assert text.endswith("\r\n")
    names = []
    for line in text.removesuffix("\r\n").split("\r\n"):
        found = re.fullmatch(r"([A-Za-z-]+): (\S.*)", line)
        assert found is not None, line
        names.append(found[1])
    assert set(names) <= FIELDS
    assert names.count("Contact") == 2
    for once in ("Expires", "Preferred-Languages"):
        assert names.count(once) == 1
    expires = datetime.fromisoformat(dict(line.split(": ", 1) for line in text.splitlines())["Expires"])
    assert timedelta(days=150) < expires - now < timedelta(days=365)

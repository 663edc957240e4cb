"""A database's URL is refused where it is read otherwise than meant, and shown without its password."""

from __future__ import annotations

import pytest

from storage.database_url import HIDDEN, check_database_url, without_password

MISREAD = [
    "postgresql://karta:hunter/2@db:5432/karta",
    "postgresql://karta:hunter#2@db:5432/karta",
    "postgresql://karta:hunter?2@db:5432/karta",
    "postgresql://karta:12/hunter2@db/karta",
    "postgresql://karta:12?hunter2@db/karta",
    "postgresql://karta:12#hunter2@db/karta",
    "postgresql://karta:a@hunter/2@db/karta",
    "postgresql://karta:hunter[2@db/karta",
    "postgresql://karta:hunter2/karta",
]


@pytest.mark.parametrize("url", MISREAD)
def test_a_password_that_ends_the_host_is_refused_and_hides_all(url: str) -> None:
    with pytest.raises(ValueError, match="percent-encode") as caught:
        check_database_url(url)
    assert "hunter" not in str(caught.value)
    assert without_password(url) == HIDDEN


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://karta:hunter2@db:6432/karta", "postgresql://karta:…@db:6432/karta"),
        ("postgresql://karta:hunter2@db/karta", "postgresql://karta:…@db/karta"),
        ("postgresql://karta:hunter2@[fd00::1]:6432/karta", "postgresql://karta:…@[fd00::1]:6432/karta"),
        ("postgresql://karta:hunt%2F@2@db/karta", "postgresql://karta:…@db/karta"),
        ("postgresql://karta:hunter2@a:1,b:2/karta", "postgresql://karta:…@a:1,b:2/karta"),
        ("postgresql://karta@db/karta?password=hunter2", "postgresql://karta@db/karta?…"),
        ("postgresql:///karta?host=/run&password=hunter2", "postgresql:///karta?…"),
        ("postgresql://karta:hunter2@/karta?host=/run", "postgresql://karta:…@/karta?…"),
        ("postgres://karta@db:5432/karta", "postgres://karta@db:5432/karta"),
        ("postgresql:///karta?host=/run/postgresql", "postgresql:///karta?host=/run/postgresql"),
        ("postgresql:///karta?user=karta@server", HIDDEN),
    ],
)
def test_what_is_read_as_it_was_meant_is_shown_without_its_password(url: str, shown: str) -> None:
    check_database_url(url)
    assert without_password(url) == shown


def test_what_is_no_url_of_postgresql_is_refused_without_quoting_it() -> None:
    with pytest.raises(ValueError, match="write it as postgresql://") as caught:
        check_database_url("mysql://root:hunter2@db")
    assert "hunter2" not in str(caught.value)

"""The two proofs that a form is ours."""

from __future__ import annotations

import pytest
from werkzeug.datastructures import Headers

from admin.csrf import is_same_site, is_token, make_token


def test_a_token_is_of_its_cookie() -> None:
    assert is_token("cookie", make_token("cookie"))
    assert make_token("cookie") != make_token("other")


@pytest.mark.parametrize(
    ("cookie", "token"),
    [
        ("cookie", "x"),
        ("cookie", None),
        (None, make_token("cookie")),
        ("", make_token("")),
        ("cookie", "\udcff"),
    ],
)
def test_anything_else_is_none(cookie: str | None, token: str | None) -> None:
    assert not is_token(cookie, token)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, True),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://evil.example"}, True),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "https://admin.example"}, False),
        ({"Sec-Fetch-Site": "none"}, False),
        ({"Origin": "https://admin.example"}, True),
        ({"Origin": "https://ADMIN.example"}, True),
        ({"Origin": "http://admin.example"}, False),
        ({"Origin": "https://admin.example:8443"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "https://["}, False),
    ],
)
def test_what_the_browser_says_of_the_site(headers: dict[str, str], expected: bool) -> None:
    assert is_same_site(Headers(headers), "https", "admin.example") is expected

from __future__ import annotations

from admin.redirect import see


async def test_it_is_fetched_by_get() -> None:
    response = see("/account")
    assert (response.status_code, response.headers["location"]) == (303, "/account")

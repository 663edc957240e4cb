"""What is below the API's prefix, and what only looks like it."""

from __future__ import annotations

import pytest
from quart import Quart

from admin.api_path import is_api


@pytest.mark.parametrize(
    ("path", "ours"),
    [
        ("/api/v1", True),
        ("/api/v1/", True),
        ("/api/v1/organizations/x", True),
        ("/api/v10", False),
        ("/api", False),
        ("/API/v1/x", False),
        ("/x/api/v1/", False),
        ("/", False),
    ],
)
async def test_what_is_the_api(path: str, ours: bool) -> None:
    async with Quart("admin").test_request_context(path):
        assert is_api() is ours

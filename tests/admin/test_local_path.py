from __future__ import annotations

import pytest

from admin.local_path import local_path


@pytest.mark.parametrize("path", ["/", "/account?done=1", "/a/b-c_d?next=/x"])
def test_a_path_of_ours(path: str) -> None:
    assert local_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        *(None, "", "account", "https://evil.example/", "//evil.example/", "///evil.example"),
        *(
            "/\\evil.example",
            "\\\\evil.example",
            "/\t/evil.example",
            "/\n/evil.example",
            "javascript:alert(1)",
        ),
        *(" /x", "/" + "x" * 2000, "/é", "/\u2028"),
    ],
)
def test_what_is_none(path: str | None) -> None:
    assert local_path(path, "/otherwise") == "/otherwise"

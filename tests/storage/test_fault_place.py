"""A fault is told by kind and place."""

from __future__ import annotations

import pytest

from storage.fault_place import describe
from storage.key_format import digest


def _raised(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:
        return caught


def test_a_fault_has_a_kind_and_a_place_and_no_message() -> None:
    told = describe(_raised(ValueError("kt_live_secret")))
    assert told.startswith("ValueError at test_fault_place.py:")
    assert "secret" not in told


def test_the_place_is_the_last_of_our_own() -> None:
    with pytest.raises(ValueError, match="cost must be") as caught:
        digest(b"secret", 3)
    assert describe(caught.value).startswith("ValueError at key_format.py:")


def test_each_of_a_group_is_told() -> None:
    group = ExceptionGroup(
        "secret", [_raised(KeyError("secret")), ExceptionGroup("secret", [OSError("secret")])]
    )
    told = describe(group)
    assert told.split("; ")[1] == "OSError"
    assert told.startswith("KeyError at ")
    assert "secret" not in told

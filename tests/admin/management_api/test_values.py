"""What a schema cannot say of a value."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from admin.management_api.problems import Problem
from admin.management_api.values import (
    require_choice,
    require_future,
    require_moment,
    require_name,
    require_printable,
)


def test_names() -> None:
    assert require_name("  Web ", "$.name") == "Web"
    for wrong in ("", "  ", "a\0b", "a\nb"):
        with pytest.raises(Problem) as caught:
            require_name(wrong, "$.name")
        assert caught.value.errors[0].pointer == "$.name"


def test_printable() -> None:
    assert require_printable("gpt-6-sol", "$") == "gpt-6-sol"
    with pytest.raises(Problem):
        require_printable("a\0", "$")


def test_choices() -> None:
    assert require_choice("a", ("a", "b"), "$") == "a"
    with pytest.raises(Problem) as caught:
        require_choice("c", ("a", "b"), "$")
    assert "a, b" in caught.value.errors[0].detail


def test_moments() -> None:
    now = datetime.now(UTC)
    assert require_moment(None, "$") is None
    assert require_moment(now, "$") == now
    edge = datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))
    for wrong in (edge, datetime(9999, 12, 31, tzinfo=UTC)):
        with pytest.raises(Problem):
            require_moment(wrong, "$")
    later = now + timedelta(days=1)
    assert require_future(later, "$") == later
    assert require_future(None, "$") is None
    for wrong in (now, datetime(9999, 12, 31, tzinfo=UTC)):
        with pytest.raises(Problem):
            require_future(wrong, "$")

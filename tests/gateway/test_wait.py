"""An over-long wait says what was waited for."""

from __future__ import annotations

import pytest

from gateway.wait import Overdue, Waiting


@pytest.mark.parametrize("waiting", list(Waiting))
def test_overdue_names_the_wait(waiting: Waiting) -> None:
    overdue = Overdue(waiting)
    assert overdue.waiting is waiting
    assert str(overdue) == waiting.value
    assert not isinstance(overdue, OSError), "a broken connection is something else"

"""A fault is told by kind and place."""

from __future__ import annotations

import logging

import pytest

from gateway.fault import tell
from storage import error_reports
from storage.fault_place import describe


def _raised(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:
        return caught


def test_a_fault_is_logged_and_reported_with_whose_it_was(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported: list[tuple[object, ...]] = []
    monkeypatch.setattr(
        error_reports, "report", lambda error, tags, user=None: reported.append((error, tags, user))
    )
    error = _raised(ValueError("secret"))
    log = logging.getLogger("karta.gateway.test")
    tell(log, error, "request %s failed", "r1", request_id="r1")
    assert caplog.messages == [f"request r1 failed: {describe(error)}"]
    assert reported == [(error, {"place": "karta.gateway.test", "request_id": "r1"}, None)]

"""A fault is told by kind and place."""

from __future__ import annotations

import logging

import pytest

from gateway.fault import describe, tell
from gateway.refusal import Dialect, Kind, error_body
from storage import error_reports


def _raised(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:
        return caught


def test_a_fault_has_a_kind_and_a_place_and_no_message() -> None:
    told = describe(_raised(ValueError("kt_live_secret")))
    assert told.startswith("ValueError at test_fault.py:")
    assert "secret" not in told


def test_the_place_is_the_last_of_our_own() -> None:
    with pytest.raises(TypeError) as caught:
        error_body(Kind.INTERNAL, object(), Dialect.OPENAI, "id")  # type: ignore[arg-type]
    assert describe(caught.value).startswith("TypeError at refusal.py:")


def test_each_of_a_group_is_told() -> None:
    group = ExceptionGroup(
        "secret", [_raised(KeyError("secret")), ExceptionGroup("secret", [OSError("secret")])]
    )
    told = describe(group)
    assert told.split("; ")[1] == "OSError"
    assert told.startswith("KeyError at ")
    assert "secret" not in told


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

"""What looks like a secret is replaced, and what people read is not."""

from __future__ import annotations

import pytest

from storage.secret_patterns import HIDDEN, hide
from tests.support.planted_secrets import SHAPED


@pytest.mark.parametrize("kind", SHAPED)
@pytest.mark.parametrize("around", ["{}", "x-api-key: {}, more", '{{"key":"{}"}}', "https://h/?key={}&x"])
def test_each_kind_is_hidden_wherever_it_stands(kind: str, around: str) -> None:
    text = around.format(SHAPED[kind])
    if kind == "database url":
        text = f"postgresql://{SHAPED[kind]}db.internal/karta"
    hidden = hide(text)
    assert HIDDEN in hidden
    assert SHAPED[kind] not in hidden
    for part in SHAPED[kind].replace("\n", " ").split():
        assert len(part) < 8 or part not in hidden or part in ("PRIVATE", "-----BEGIN", "KEY-----")


@pytest.mark.parametrize(
    "text",
    [
        "POST /v1/messages",
        "gateway.pipeline",
        "_admit_and_relay_what_was_asked_in_the_dialect_of_the_api",
        "0b8f3f1e-9a55-4a34-9d3f-0a1b2c3d4e5f",
        "8f14e45fceea167a5a36dedd4bea2543",
        "karta@0.1.0",
        "tests/gateway/test_pipeline_refusals.py",
        "management_key:owner",
        "23505",
    ],
)
def test_what_reports_are_made_of_stays(text: str) -> None:
    assert hide(text) == text

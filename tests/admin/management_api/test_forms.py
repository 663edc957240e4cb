"""The forms: what they refuse, and what they never tell."""

from __future__ import annotations

import msgspec
import pytest

from admin.management_api import forms
from admin.management_api.forms import MintedAPIKey, NewLimit, NewProviderKey, NewSecret, RoleChange


def test_what_is_taken_takes_nothing_else() -> None:
    for name in vars(forms):
        form = getattr(forms, name)
        if isinstance(form, type) and name.startswith(("New", "Renaming", "RoleChange", "Rotation", "Page")):
            if form.__struct_config__.forbid_unknown_fields:
                continue
            assert name.endswith("Page"), name


def test_secrets_are_in_no_repr() -> None:
    secret = "sk-ant-api03-secret"
    assert secret not in repr(NewProviderKey("anthropic", secret))
    assert secret not in repr(NewSecret(secret))
    key = msgspec.convert(
        {
            "key_id": "x",
            "org_id": "0" * 32,
            "name": "n",
            "mode": "live",
            "last_four": "abcd",
            "created_at": "2026-01-01T00:00:00Z",
            "expires_at": None,
            "revoked_at": None,
            "last_used_at": None,
            "allowed_models": None,
        },
        forms.APIKey,
    )
    assert secret not in repr(MintedAPIKey(api_key=key, key=secret))


@pytest.mark.parametrize(
    ("form", "body"),
    [
        (RoleChange, b'{"role": "owner"}'),
        (RoleChange, b'{"role": "viewer\\n"}'),
        (NewLimit, b'{"kind": "money", "period": "day", "amount": 5}'),
        (NewLimit, b'{"kind": "money", "period": "day", "amount": "1e9"}'),
        (NewLimit, b'{"kind": "money", "period": "day", "amount": "1", "thresholds": [0]}'),
        (NewProviderKey, b'{"provider": "openai", "secret": "short"}'),
        (NewProviderKey, b'{"provider": "openai", "secret": "with space in it"}'),
        (NewSecret, b'{"secret": "long enough", "more": 1}'),
    ],
)
def test_what_is_refused(form: type[msgspec.Struct], body: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(body, type=form)

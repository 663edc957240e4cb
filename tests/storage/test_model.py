from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest

from storage import model
from storage.model import GatewayKey, Mode, OrgStatus, Plan, SealedCredential, UsageRecord


def test_records_are_frozen() -> None:
    kinds = [
        kind for kind in vars(model).values() if isinstance(kind, type) and issubclass(kind, msgspec.Struct)
    ]
    assert kinds
    assert all(kind.__struct_config__.frozen for kind in kinds)


def test_a_gateway_keys_repr_hides_digest_and_material() -> None:
    sealed = SealedCredential(
        credential_id=UUID(int=1),
        org_id=UUID(int=2),
        provider="openai",
        master_key_version=1,
        org_salt=b"salt",
        wrapped_key=b"wrapped",
        ciphertext=b"ciphertext",
    )
    key = GatewayKey(
        key_id="0123456789ab",
        org_id=UUID(int=2),
        mode=Mode.LIVE,
        secret_digest=b"$2b$12$digest",
        expires_at=None,
        revoked_at=None,
        allowed_models=None,
        billed_elsewhere=False,
        plan=Plan.PRO,
        org_status=OrgStatus.ACTIVE,
        credentials=(sealed,),
    )
    assert "digest" not in repr(key)
    assert "ciphertext" not in repr(key)


def test_a_usage_record_is_an_array_on_disk_and_may_grow_at_its_end() -> None:
    """The spool outlives releases: a record written before a field was added must still be read."""
    fields = {field.name: field for field in msgspec.structs.fields(UsageRecord)}
    values: dict[str, Any] = {
        "request_id": "0" * 32,
        "started_at": datetime(2026, 1, 1, tzinfo=UTC),
        "org_id": UUID(int=1),
    }
    simple = {"bool": True, "int": 1, "str": "x"}
    for name, field in fields.items():
        if name not in values:
            kind = getattr(field.type, "__name__", "")
            values[name] = simple.get(
                kind, next(iter(field.type)) if kind in ("CredentialKind", "Outcome") else None
            )
    record = UsageRecord(**values)
    encoded = msgspec.msgpack.encode(record)
    assert len(msgspec.msgpack.decode(encoded)) == len(fields)
    assert msgspec.msgpack.decode(encoded, type=UsageRecord) == record
    longer = msgspec.msgpack.encode([*msgspec.msgpack.decode(encoded), "added later"])
    assert msgspec.msgpack.decode(longer, type=UsageRecord) == record
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode(["too short"]), type=UsageRecord)

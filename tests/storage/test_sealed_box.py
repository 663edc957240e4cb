from __future__ import annotations

import pytest

from storage.errors import SealError
from storage.sealed_box import CONTENT_BYTES_MAX, Purpose, open_box, seal_box
from storage.sealing import MasterKeys

TOTP, MAIL = Purpose.TOTP_SECRET, Purpose.OUTBOX_MESSAGE


def test_a_box_opens_in_its_place_alone(master_keys: MasterKeys) -> None:
    box = seal_box(master_keys, TOTP, b"ada", b"secret")
    assert open_box(master_keys, TOTP, b"ada", box) == b"secret"
    assert b"secret" not in box
    for purpose, place in ((TOTP, b"eve"), (MAIL, b"ada"), (TOTP, b"")):
        with pytest.raises(
            SealError, match=r"^a sealed box does not open: wrong master key, or moved from its place$"
        ):
            open_box(master_keys, purpose, place, box)
    with pytest.raises(SealError):
        open_box(MasterKeys({1: bytes(32)}), TOTP, b"ada", box)


def test_what_was_sealed_before_opens() -> None:
    """What is in databases hangs on every byte of the format: sealing and opening may not change together."""
    keys = MasterKeys({1: bytes(range(32)), 2: bytes(range(1, 33))})
    box = "0100000002b5ad722398a085cfac959bd8cdc212f9f59d5fadc1b8c89bb74f9a0ef6e907510b34"
    assert open_box(keys, TOTP, b"ada", bytes.fromhex(box)) == b"secret"


def test_no_two_boxes_are_alike(master_keys: MasterKeys) -> None:
    assert len({seal_box(master_keys, TOTP, b"ada", b"secret") for _ in range(20)}) == 20


def test_older_versions_of_the_master_key_open_what_they_sealed(master_keys: MasterKeys) -> None:
    box = seal_box(master_keys, TOTP, b"ada", b"secret")
    newer = MasterKeys({1: bytes(range(32)), 2: bytes(32)})
    assert open_box(newer, TOTP, b"ada", box) == b"secret"
    with pytest.raises(SealError, match="version 2"):
        open_box(master_keys, TOTP, b"ada", seal_box(newer, TOTP, b"ada", b"secret"))


@pytest.mark.parametrize("version", [2**8 + 1, 2**16 + 1, 2**24 + 1])
def test_each_byte_of_the_version_counts(version: int) -> None:
    keys = MasterKeys({1: bytes(range(32)), version: bytes(32)})
    assert open_box(keys, TOTP, b"ada", seal_box(keys, TOTP, b"ada", b"secret")) == b"secret"


def test_every_changed_byte_and_every_cut_is_noticed(master_keys: MasterKeys) -> None:
    box = seal_box(master_keys, TOTP, b"ada", b"secret")
    for at in range(len(box)):
        changed = bytearray(box)
        changed[at] ^= 1
        with pytest.raises(SealError):
            open_box(master_keys, TOTP, b"ada", bytes(changed))
        with pytest.raises(SealError):
            open_box(master_keys, TOTP, b"ada", box[:at])
    for unreadable in (box[:20], b"\2" + box[1:]):
        with pytest.raises(SealError, match=r"^a sealed box is cut short or of an unknown format$"):
            open_box(master_keys, TOTP, b"ada", unreadable)


@pytest.mark.parametrize("content", [b"x", b"x" * CONTENT_BYTES_MAX])
def test_what_just_fits(master_keys: MasterKeys, content: bytes) -> None:
    assert open_box(master_keys, TOTP, b"ada", seal_box(master_keys, TOTP, b"ada", content)) == content


@pytest.mark.parametrize("content", [b"", b"x" * (CONTENT_BYTES_MAX + 1)])
def test_what_does_not_fit(master_keys: MasterKeys, content: bytes) -> None:
    with pytest.raises(SealError, match=f"^a box holds 1 to {CONTENT_BYTES_MAX} bytes$"):
        seal_box(master_keys, TOTP, b"ada", content)

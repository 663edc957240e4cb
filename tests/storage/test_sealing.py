"""Sealing opens in its own place and nowhere else, and leaves nothing behind."""

from __future__ import annotations

import base64
import copy
import os
import pickle
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import sealing
from storage.errors import SealError
from storage.model import SealedCredential
from storage.sealing import MasterKeys, open_sealed, rewrap, seal, wipe

SECRET = b"sk-ant-api03-" + b"x" * 90
KEYS = MasterKeys({1: bytes(range(32)), 2: bytes(range(1, 33))})


def sealed(
    keys: MasterKeys = KEYS, plaintext: bytes = SECRET, org_id: UUID | None = None, salt: bytes | None = None
) -> SealedCredential:
    org_id, salt, credential_id = org_id or uuid4(), salt or os.urandom(32), uuid4()
    version, wrapped_key, ciphertext = seal(
        keys,
        org_id=org_id,
        org_salt=salt,
        provider="anthropic",
        credential_id=credential_id,
        plaintext=bytearray(plaintext),
    )
    return SealedCredential(
        credential_id=credential_id,
        org_id=org_id,
        provider="anthropic",
        master_key_version=version,
        org_salt=salt,
        wrapped_key=wrapped_key,
        ciphertext=ciphertext,
    )


@given(st.binary(min_size=1, max_size=4096))
def test_what_is_sealed_opens(plaintext: bytes) -> None:
    opened = open_sealed(KEYS, sealed(plaintext=plaintext))
    assert isinstance(opened, bytearray)
    assert opened == plaintext


def test_what_was_sealed_before_opens() -> None:
    """What is in databases hangs on every byte of the format: sealing and opening may not change together."""
    credential = SealedCredential(
        credential_id=UUID(int=2),
        org_id=UUID(int=1),
        provider="anthropic",
        master_key_version=2,
        org_salt=bytes(range(32, 64)),
        wrapped_key=bytes.fromhex(
            "01bc790db97a6f237a245aa200d8d16246c68a209fe58a6ef88cf0b958452aadeb3952dc5d9ba1c1f6cbd73216"
            "e8193ac742dcb015954e5fe07879ecf0"
        ),
        ciphertext=bytes.fromhex(
            "0184d1ab8c7b046545dbb984cc89ae1e1461dcdb618ba88e8357346536bc651dc317506b1c29bec07728a56604218c16e0"
        ),
    )
    assert open_sealed(KEYS, credential) == b"sk-ant-api03-example"


def test_an_opening_is_prepared_once_for_each_row() -> None:
    keys = MasterKeys({1: bytes(range(32))})
    credential = sealed(keys)
    assert open_sealed(keys, credential) == SECRET
    (prepared,) = keys.openers.items()
    assert prepared[1].sealed is credential
    assert open_sealed(keys, credential) == SECRET
    assert list(keys.openers.items()) == [prepared]
    assert prepared[0] == credential.credential_id.int
    # The credential was given another secret.
    _, wrapped_key, ciphertext = seal(
        keys,
        org_id=credential.org_id,
        org_salt=credential.org_salt,
        provider=credential.provider,
        credential_id=credential.credential_id,
        plaintext=bytearray(b"another"),
    )
    changed = msgspec.structs.replace(credential, wrapped_key=wrapped_key, ciphertext=ciphertext)
    assert open_sealed(keys, changed) == b"another"
    assert list(keys.openers) == [credential.credential_id.int]


def test_an_opening_is_forgotten_when_that_is_asked() -> None:
    keys = MasterKeys({1: bytes(range(32))})
    credentials = [sealed(keys) for _ in range(3)]
    numbers = [one.credential_id.int for one in credentials]
    for credential in credentials:
        open_sealed(keys, credential)
    for _ in range(2):
        keys.forget(credentials[0].credential_id)
        assert list(keys.openers) == numbers[1:]
    keys.forget_but({numbers[0], numbers[2]})
    assert list(keys.openers) == [numbers[2]]
    # And prepared anew for whoever still has it.
    assert open_sealed(keys, credentials[0]) == SECRET


def test_the_oldest_opening_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "OPENERS_MAX", 2)
    keys = MasterKeys({1: bytes(range(32))})
    credentials = [sealed(keys) for _ in range(3)]
    for credential in credentials:
        assert open_sealed(keys, credential) == SECRET
    assert list(keys.openers) == [credential.credential_id.int for credential in credentials[1:]]


def test_a_data_key_of_another_length_is_none() -> None:
    """As another format's would be: sealed well, but no key of AES-256."""
    credential = sealed()
    place = sealing._wrapping_data(2, sealing._place(credential))
    org_key = KEYS.org_key(2, credential.org_id, credential.org_salt)
    wrapped_key = sealing._encrypt(org_key, bytearray(16), place)
    with pytest.raises(SealError, match=r"^a wrapped key has the wrong length$"):
        open_sealed(KEYS, msgspec.structs.replace(credential, wrapped_key=wrapped_key))


def test_the_primary_is_the_highest_version() -> None:
    assert KEYS.primary_version == 2
    assert sealed().master_key_version == 2


def test_nothing_of_the_secret_shows() -> None:
    credential = sealed()
    assert SECRET[:12] not in credential.ciphertext
    assert SECRET[:12] not in credential.wrapped_key


def test_sealing_twice_never_gives_the_same_bytes() -> None:
    org_id, salt = uuid4(), os.urandom(32)
    one, two = sealed(org_id=org_id, salt=salt), sealed(org_id=org_id, salt=salt)
    assert one.ciphertext[:13] != two.ciphertext[:13]
    assert one.wrapped_key != two.wrapped_key


@pytest.mark.parametrize(
    "moved",
    [
        {"org_id": uuid4()},
        {"org_salt": os.urandom(32)},
        {"credential_id": uuid4()},
        {"provider": "openai"},
        {"master_key_version": 1},
        {"master_key_version": 3},
        {"wrapped_key": sealed().wrapped_key},
        {"ciphertext": sealed().ciphertext},
        {"wrapped_key": sealed().ciphertext},
        {"wrapped_key": b""},
        {"ciphertext": b""},
        {"ciphertext": b"\x01" * 28},
        {"org_salt": b"short"},
    ],
    ids=lambda moved: "-".join(moved),
)
def test_moved_material_does_not_open(moved: dict[str, Any]) -> None:
    with pytest.raises(SealError):
        open_sealed(KEYS, msgspec.structs.replace(sealed(), **moved))


@given(st.data())
def test_any_changed_bit_is_noticed(data: st.DataObject) -> None:
    credential = sealed()
    column = data.draw(st.sampled_from(["wrapped_key", "ciphertext"]))
    value = bytearray(getattr(credential, column))
    value[data.draw(st.integers(0, len(value) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(SealError):
        open_sealed(KEYS, msgspec.structs.replace(credential, **{column: bytes(value)}))


def test_another_master_key_of_the_same_version_does_not_open() -> None:
    told = "^sealed material does not open: wrong master key, or moved from its place$"
    with pytest.raises(SealError, match=told):
        open_sealed(MasterKeys({2: bytes(32)}), sealed())


def test_rewrapping_moves_to_the_primary_and_leaves_the_ciphertext() -> None:
    old = MasterKeys({1: bytes(range(32))})
    credential = sealed(old)
    version, wrapped_key = rewrap(KEYS, credential)
    assert version == 2
    rewrapped = msgspec.structs.replace(credential, master_key_version=version, wrapped_key=wrapped_key)
    # The old master key is no longer needed, and no longer enough.
    assert open_sealed(MasterKeys({2: bytes(range(1, 33))}), rewrapped) == SECRET
    with pytest.raises(SealError):
        open_sealed(old, rewrapped)


@pytest.mark.parametrize("length", [0, sealing.PLAINTEXT_BYTES_MAX + 1])
def test_lengths_out_of_bounds(length: int) -> None:
    with pytest.raises(SealError, match="provider key is"):
        sealed(plaintext=b"x" * length)


def test_wipe_zeroes_in_place() -> None:
    buffer = bytearray(SECRET)
    with memoryview(buffer) as view:  # a resize would raise BufferError: it must be the same memory
        wipe(buffer)
        assert bytes(view) == bytes(len(SECRET))


def test_the_plaintext_given_is_left_to_the_caller() -> None:
    plaintext = bytearray(SECRET)
    seal(
        KEYS,
        org_id=uuid4(),
        org_salt=bytes(32),
        provider="openai",
        credential_id=uuid4(),
        plaintext=plaintext,
    )
    assert plaintext == SECRET


@given(st.lists(st.integers(1, 2**31 - 1), min_size=1, max_size=16, unique=True))
def test_master_keys_are_read_as_they_are_written(versions: list[int]) -> None:
    keys = MasterKeys.parse(",".join(MasterKeys.generate(version) for version in versions))
    assert keys.versions == tuple(sorted(versions))


KEY = base64.b64encode(bytes(32)).decode()
WRITTEN = "master keys are written as 1:<base64 of 32 bytes>,2:<…>"
NUMBERED = "a master key's version is a number from 1 up"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", WRITTEN),
        ("1", WRITTEN),
        (":", WRITTEN),
        ("1:", "master key 1 must be 32 bytes in base64"),
        ("0:" + KEY, NUMBERED),
        ("-1:" + KEY, WRITTEN),
        ("²:" + KEY, WRITTEN),
        ("2147483648:" + KEY, NUMBERED),
        ("99999999999:" + KEY, WRITTEN),
        ("1:" + base64.b64encode(b"SECRETSECRETSECRET").decode(), "master key 1 must be 32 bytes in base64"),
        ("1:SECRET!!", "master key 1 is not base64"),
        ("1:!" + KEY, "master key 1 is not base64"),
        ("1:2:" + KEY, "master key 1 is not base64"),
        (f"1:{KEY},1:{KEY}", "master key version 1 is given twice"),
        (f"1:{KEY},2:{KEY}", "two versions hold the same master key: make a new one"),
        (
            ",".join(MasterKeys.generate(n) for n in range(1, 18)),
            "there must be 1 to 16 master keys; make one by `karta master-key`",
        ),
    ],
)
def test_malformed_master_keys_are_refused_without_being_quoted(text: str, told: str) -> None:
    with pytest.raises(SealError) as caught:
        MasterKeys.parse(text)
    assert str(caught.value) == told


def test_there_are_master_keys() -> None:
    with pytest.raises(SealError, match="there must be 1 to 16"):
        MasterKeys({})


def test_a_new_master_key_is_the_first() -> None:
    version, _, encoded = MasterKeys.generate().partition(":")
    assert (version, len(base64.b64decode(encoded))) == ("1", 32)
    assert MasterKeys.parse(f" {MasterKeys.generate(2**31 - 1)} ").versions == (2**31 - 1,)


def test_sealed_material_is_told_what_is_wrong_with_it() -> None:
    for changes, told in (
        ({"ciphertext": b"\x01" * 28}, r"^sealed material is cut short or of an unknown format$"),
        ({"ciphertext": b"\x02" * 29}, r"^sealed material is cut short or of an unknown format$"),
        # Of nothing: whole, but not sealed here.
        ({"ciphertext": b"\x01" * 29}, r"^sealed material does not open: "),
        ({"org_salt": b"short"}, r"^an organization's salt is 32 bytes$"),
    ):
        with pytest.raises(SealError, match=told):
            open_sealed(KEYS, msgspec.structs.replace(sealed(), **changes))


def test_the_longest_provider_key() -> None:
    longest = b"x" * sealing.PLAINTEXT_BYTES_MAX
    assert open_sealed(KEYS, sealed(plaintext=longest)) == longest


def test_master_keys_do_not_show_and_do_not_travel() -> None:
    keys = MasterKeys({7: b"0123456789abcdef0123456789abcdef"})
    assert repr(keys) == str(keys) == "MasterKeys(versions=(7,))"
    for send in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match=r"^master keys are not to be copied or serialized$"):
            send(keys)


def test_a_file_only_its_owner_can_read(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    path.write_text(MasterKeys.generate(1) + "\n" + MasterKeys.generate(2) + "\n")
    path.chmod(0o600)
    assert MasterKeys.load_file(path).versions == (1, 2)
    for mode in (0o640, 0o604, 0o644, 0o660, 0o601):
        path.chmod(mode)
        with pytest.raises(SealError, match="chmod 600"):
            MasterKeys.load_file(path)


def test_a_file_as_large_as_may_be(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    for size, fits in ((sealing.FILE_BYTES_MAX, True), (sealing.FILE_BYTES_MAX + 1, False)):
        path.write_text(MasterKeys.generate(1).ljust(size, "\n"))
        path.chmod(0o600)
        if fits:
            assert MasterKeys.load_file(path).versions == (1,)
        else:
            with pytest.raises(SealError, match="does not hold"):
                MasterKeys.load_file(path)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(SealError, match="cannot be read"):
        MasterKeys.load_file(tmp_path / "missing")
    with pytest.raises(SealError):
        MasterKeys.load_file(tmp_path)
    with pytest.raises(SealError, match="not a file"):
        MasterKeys.load_file(Path("/dev/null"))
    huge = tmp_path / "huge"
    huge.write_bytes(b"1" * 1_000_000)
    huge.chmod(0o600)
    with pytest.raises(SealError, match="does not hold"):
        MasterKeys.load_file(huge)

"""The pair that a listener shows: what can be used, what is said of what cannot, and renewal."""

from __future__ import annotations

import signal
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from cryptography.hazmat.primitives import serialization

from gateway import certificates
from gateway.certificates import CertificateError, Certificates, load_pair
from tests.support.certificates import ServerFiles
from tests.support.gateway import poll


@pytest.fixture
def files(tmp_path: Path) -> ServerFiles:
    return ServerFiles(tmp_path)


@asynccontextmanager
async def watched(files: ServerFiles) -> AsyncIterator[Certificates]:
    pair = Certificates(files.cert_file, files.key_file)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.run)
        await trio.testing.wait_all_tasks_blocked()
        yield pair
        nursery.cancel_scope.cancel()


def test_only_versions_that_are_safe_are_spoken(files: ServerFiles) -> None:
    context = load_pair(files.cert_file, files.key_file)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION


def test_what_is_wrong_with_a_pair_is_said(files: ServerFiles, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    other = ServerFiles(folder)
    with pytest.raises(CertificateError, match="not the certificate's"):
        load_pair(files.cert_file, other.key_file)
    with pytest.raises(CertificateError, match="cannot be read"):
        load_pair(tmp_path / "missing", files.key_file)
    with pytest.raises(CertificateError, match="PEM"):
        load_pair(files.key_file, files.cert_file)


def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked(files: ServerFiles) -> None:
    key = serialization.load_pem_private_key(files.key_file.read_bytes(), None)
    files.key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(CertificateError):
        load_pair(files.cert_file, files.key_file)


async def test_a_changed_pair_is_found_by_looking(
    files: ServerFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificates, "LOOK_SECONDS", 0.01)
    async with watched(files) as pair:
        before = pair.context
        files.write()
        await poll(lambda: pair.context is not before)


async def test_a_hangup_signal_reads_the_pair_again(files: ServerFiles) -> None:
    async with watched(files) as pair:
        before = pair.context
        signal.raise_signal(signal.SIGHUP)
        await poll(lambda: pair.context is not before)


async def test_a_broken_pair_is_told_once_and_the_old_one_stays(
    files: ServerFiles, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(certificates, "LOOK_SECONDS", 0.01)
    async with watched(files) as pair:
        before = pair.context
        good = files.cert_file.read_bytes()
        files.cert_file.write_text("-----BEGIN CERTIFICATE-----\nsecret words\n")
        await poll(lambda: caplog.records)
        assert pair.context is before
        looks = 0
        real = pair._look

        def counted() -> object:
            nonlocal looks
            looks += 1
            return real()

        monkeypatch.setattr(pair, "_look", counted)
        await poll(lambda: looks >= 3)
        (record,) = caplog.records
        assert record.levelname == "ERROR"
        assert "secret words" not in record.getMessage()
        files.cert_file.write_bytes(good)
        await poll(lambda: pair.context is not before)

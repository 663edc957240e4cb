"""The listener's certificate and key: loaded at the start, and again whenever the files change.

Both are read anew on SIGHUP, and when a look every `LOOK_SECONDS` finds them changed, so that a renewal needs
no restart: handshakes from then on show the new pair, connections keep what they agreed on. A pair that
cannot be used (half written, a key of another certificate) is told in the log once, and the old one stays.

TLS 1.2 and 1.3, ALPN `http/1.1`. Whoever can read the memory of this process has the key; it is nowhere else.
"""

from __future__ import annotations

import logging
import signal
import ssl
from pathlib import Path

import trio

LOOK_SECONDS = 5.0
"""Between two looks at the files: two calls of `stat` in a thread."""

_Stamp = tuple[int, int, int]

_log = logging.getLogger("karta.gateway.certificates")


class CertificateError(ValueError):
    """The files are no pair that can be shown; the message names the mend and nothing of their content."""


class Certificates:
    """`context` is for the next handshake. Raises `CertificateError` when the first pair cannot be used."""

    def __init__(self, cert_file: Path, key_file: Path) -> None:
        self._cert_file = cert_file
        self._key_file = key_file
        self._stamps = self._look()
        self.context = load_pair(cert_file, key_file)
        self.reloads = 0

    async def run(self) -> None:
        """Reload as needed until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._look_regularly)
            with trio.open_signal_receiver(signal.SIGHUP) as hangups:
                async for _ in hangups:
                    await self._reload()

    async def _look_regularly(self) -> None:
        while True:
            await trio.sleep(LOOK_SECONDS)
            if await trio.to_thread.run_sync(self._look) != self._stamps:
                await self._reload()

    async def _reload(self) -> None:
        try:
            self.context = await trio.to_thread.run_sync(self._load)
        except CertificateError as error:
            _log.error("the old certificate stays: %s", error)
        else:
            self.reloads += 1
            _log.info("a new certificate is shown from now on")

    def _load(self) -> ssl.SSLContext:
        # Looked at before they are read: what changes in between is seen by the next look.
        self._stamps = self._look()
        return load_pair(self._cert_file, self._key_file)

    def _look(self) -> tuple[_Stamp | None, _Stamp | None]:
        return _stamp(self._cert_file), _stamp(self._key_file)


def load_pair(cert_file: Path, key_file: Path) -> ssl.SSLContext:
    """A context that shows the pair. Raises `CertificateError`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(["http/1.1"])
    try:
        # The password: OpenSSL would ask a terminal for one.
        context.load_cert_chain(cert_file, key_file, password=lambda: "")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise CertificateError("the key is not the certificate's: write both files anew") from None
        raise CertificateError(
            "one of them is not PEM (the certificate with its chain; a private key without a passphrase)"
        ) from None
    except OSError as error:
        raise CertificateError(f"a file cannot be read ({error.strerror})") from None
    except ValueError:
        raise CertificateError("the private key has a passphrase: store it without one") from None
    return context


def _stamp(file: Path) -> _Stamp | None:
    """Changes when the file does, also by a link that points elsewhere from now on."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size

"""The provider's certificate is trusted by whoever is told to, and by nobody else."""

import ssl
import stat
from pathlib import Path

from bench.compare.certificate import write_certificate


def test_it_has_an_authority_of_its_own_and_its_key_is_private(tmp_path: Path) -> None:
    made = write_certificate(tmp_path)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(made.chain, made.private_key)
    client = ssl.create_default_context(cafile=str(made.authority))
    assert len(client.get_ca_certs()) == 1
    assert stat.S_IMODE(made.private_key.stat().st_mode) == 0o600

"""`karta sim` and `python -m bench.sim`: run the simulated provider in this process.

Keys come from the environment or a file, never from the command line, where every user of the machine could
read them.
"""

import argparse
import errno
import os
import ssl
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop

from bench.sim.server import serve

KEYS_VARIABLE = "KARTA_SIM_KEYS"
KEYS_FILE_VARIABLE = "KARTA_SIM_KEYS_FILE"


def main(
    port: int,
    *,
    keys: Sequence[str] | None,
    json_output: bool,
    ledger: bool = True,
    certificate: Path | None = None,
    private_key: Path | None = None,
) -> None:
    """Serve on 127.0.0.1 until SIGINT or SIGTERM.

    `port` 0 picks a free one. `keys` are the only credentials accepted; None accepts any that is not a Karta
    key. With `json_output` prints one line `{"base_url": "http://127.0.0.1:PORT"}` once ready. With a
    `certificate` (PEM chain) and its `private_key` it speaks TLS. Raises OSError when the port is taken or a
    file cannot be read.
    """
    tls = None
    if certificate is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate, private_key)
    uvloop.run(serve(port, keys=keys, json_output=json_output, ledger_enabled=ledger, tls=tls))


def keys_from_environment() -> list[str] | None:
    """The accepted keys that KARTA_SIM_KEYS (comma list) or KARTA_SIM_KEYS_FILE (one a line) give; None for
    neither."""
    if (listed := os.environ.get(KEYS_VARIABLE)) is not None:
        return [key.strip() for key in listed.split(",") if key.strip()]
    if (path := os.environ.get(KEYS_FILE_VARIABLE)) is not None:
        return [line.strip() for line in Path(path).read_text().splitlines() if line.strip()]
    return None


def run(arguments: Sequence[str] | None = None) -> int:
    """The command line of `python -m bench.sim`; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.sim",
        description="A simulated LLM provider on 127.0.0.1: both APIs, with steered behaviour.",
        epilog=f"Accepted keys, when not any: {KEYS_VARIABLE} (comma list) or {KEYS_FILE_VARIABLE} (a file).",
    )
    parser.add_argument(
        "--port", type=int, default=0, help="port on 127.0.0.1; 0 (the default) picks a free one"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON line with base_url when ready")
    parser.add_argument("--no-ledger", action="store_true", help="keep no ledger (a little faster)")
    parser.add_argument("--certificate", type=Path, help="speak TLS with this certificate chain (PEM file)")
    parser.add_argument("--private-key", type=Path, help="the certificate's key, when it is in another file")
    given = parser.parse_args(arguments)
    try:
        main(
            given.port,
            keys=keys_from_environment(),
            json_output=given.json,
            ledger=not given.no_ledger,
            certificate=given.certificate,
            private_key=given.private_key,
        )
    except OSError as error:
        mend = "choose another --port" if error.errno == errno.EADDRINUSE else "check the files named"
        print(f"cannot serve on 127.0.0.1:{given.port}: {error}; {mend}", file=sys.stderr)
        return 1
    return 0

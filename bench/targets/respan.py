"""respan-gateway: a gateway in Rust, shipped as a PyPI wheel.  Anthropic in, Anthropic out, one client key.

It reads answers and writes them anew, so their text is compared and not their bytes.
"""

import secrets
from collections.abc import Sequence

from bench.load.plan import Dialect
from bench.targets.base import PLACEHOLDER_KEY, TargetContext
from bench.targets.packages import Package
from bench.targets.program import ProgramTarget, Start

_CONFIGURATION = """\
listen = "127.0.0.1:{port}"
log = "off"
ui = false
client_keys = ["env:BENCH_CLIENT_KEY"]

[providers.anthropic]
vendor = "anthropic"
base_url = "{upstream}"
key = "env:BENCH_PROVIDER_KEY"
"""


class RespanTarget(ProgramTarget):
    """Respan's gateway."""

    name = "respan-gateway"
    description = "respan-gateway (Rust), one client key; Anthropic API"
    governed = True
    dialects: Sequence[Dialect] = ("anthropic",)
    package = Package(name="respan-gateway", source="pypi", program="bin/respan-gateway")

    def start(self, context: TargetContext, port: int) -> Start:
        configuration = context.directory / "gateway.toml"
        configuration.write_text(_CONFIGURATION.format(port=port, upstream=context.upstream_url))
        key = f"sk-{secrets.token_hex(16)}"
        environment = {
            "BENCH_CLIENT_KEY": key,
            "BENCH_PROVIDER_KEY": PLACEHOLDER_KEY,
            "TOKIO_WORKER_THREADS": "1",
        }
        if context.ca_file is not None:
            environment["SSL_CERT_FILE"] = context.ca_file
        argv = [str(self.package.path), "-c", str(configuration), "serve"]
        return Start(argv=argv, environment=environment, keys=[key])

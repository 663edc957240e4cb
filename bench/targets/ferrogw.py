"""ferrogw: a gateway in Go, shipped as a PyPI wheel.  It speaks the OpenAI API and writes answers anew.

Governed: it checks a master key.  Its rate limit is lifted, Go gets one processor, and its log tells errors
only.  It takes no model names but those of its catalogue, so the provider is told what a known one means.
"""

import secrets
from collections.abc import Sequence

from bench.load.plan import Dialect
from bench.targets.base import PLACEHOLDER_KEY, TargetContext
from bench.targets.packages import Package
from bench.targets.program import ProgramTarget, Start

_CONFIGURATION = """\
strategy:
  mode: single
targets:
  - virtual_key: openai
"""


class FerrogwTarget(ProgramTarget):
    """Ferro Labs' gateway."""

    name = "ferrogw"
    description = "ferrogw (Go), one master key, no rate limit, GOMAXPROCS=1; OpenAI API"
    governed = True
    dialects: Sequence[Dialect] = ("openai",)
    model = "gpt-4o"
    package = Package(name="ferrogw", source="pypi", program="bin/ferrogw")

    def start(self, context: TargetContext, port: int) -> Start:
        configuration = context.directory / "config.yaml"
        configuration.write_text(_CONFIGURATION)
        key = f"fgw_{secrets.token_hex(16)}"
        environment = {
            "GATEWAY_CONFIG": str(configuration),
            "MASTER_KEY": key,
            "OPENAI_API_KEY": PLACEHOLDER_KEY,
            "OPENAI_BASE_URL": context.upstream_url,
            "PORT": str(port),
            "RATE_LIMIT_RPS": "0",
            "LOG_LEVEL": "error",
            "GOMAXPROCS": "1",
        }
        if context.ca_file is not None:
            environment["SSL_CERT_FILE"] = context.ca_file
        return Start(argv=[str(self.package.path), "serve"], environment=environment, keys=[key])

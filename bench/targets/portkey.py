"""Portkey's gateway (Node.js): no keys of its own; each request names the provider in its headers.

It adds headers to the provider's answer, which for a stream `@hono/node-server` allows up to 1.14.1 only:
with a later one it answers every stream with 500 (Portkey-AI/gateway#1389). Portkey asks for ^1.3.3, so what
npm picks today is broken; `locked/portkey` holds it at 1.14.1.
"""

from collections.abc import Sequence

import msgspec

from bench.load.plan import Dialect
from bench.targets.base import PLACEHOLDER_KEY, Installation, TargetContext
from bench.targets.packages import Package
from bench.targets.program import ProgramTarget, Start


class PortkeyTarget(ProgramTarget):
    """The open-source gateway, without its console."""

    name = "portkey"
    description = "Portkey gateway (Node.js), ungoverned; OpenAI API"
    dialects: Sequence[Dialect] = ("openai",)
    package = Package(
        name="portkey", source="npm", program="node_modules/@portkey-ai/gateway/build/start-server.js"
    )

    def installation(self) -> Installation:
        found = super().installation()
        if not found.ready:
            return found
        version = f"{found.version}, Node.js {self.package.pinned_node_version()}"
        return msgspec.structs.replace(found, version=version)

    def start(self, context: TargetContext, port: int) -> Start:
        environment = {"NODE_ENV": "production"}
        if context.ca_file is not None:
            environment["NODE_EXTRA_CA_CERTS"] = context.ca_file
        return Start(
            argv=[str(self.package.node), str(self.package.path), f"--port={port}", "--headless"],
            environment=environment,
            keys=[PLACEHOLDER_KEY],
            headers={
                "x-portkey-provider": "openai",
                "x-portkey-custom-host": f"{context.upstream_url}/v1",
            },
        )

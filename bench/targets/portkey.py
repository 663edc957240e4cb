"""Portkey's gateway (Node.js): no keys of its own; each request names the provider in its headers."""

import shutil
from collections.abc import Sequence

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
        if shutil.which("node") is None:
            mend = "install Node.js (Debian: apt install nodejs npm), then karta bench install portkey"
            return Installation(ready=False, mend=mend)
        return super().installation()

    def start(self, context: TargetContext, port: int) -> Start:
        environment = {"NODE_ENV": "production"}
        if context.ca_file is not None:
            environment["NODE_EXTRA_CA_CERTS"] = context.ca_file
        return Start(
            argv=[shutil.which("node") or "node", str(self.package.path), f"--port={port}", "--headless"],
            environment=environment,
            keys=[PLACEHOLDER_KEY],
            headers={
                "x-portkey-provider": "openai",
                "x-portkey-custom-host": f"{context.upstream_url}/v1",
            },
        )

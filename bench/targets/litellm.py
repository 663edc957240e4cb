"""LiteLLM's proxy (Python), with a master key and no database: any model name goes to the OpenAI API.

It takes a comma in a model's name for a list of models, so it is asked for a plain one, and the provider is
told what that means.
"""

import secrets
from collections.abc import Sequence

from bench.load.plan import Dialect
from bench.targets.base import PLACEHOLDER_KEY, TargetContext
from bench.targets.packages import Package
from bench.targets.program import ProgramTarget, Start

_CONFIGURATION = """\
model_list:
  - model_name: "*"
    litellm_params:
      model: "openai/*"
      api_base: "{upstream}/v1"
      api_key: "os.environ/BENCH_PROVIDER_KEY"
litellm_settings:
  telemetry: false
general_settings:
  master_key: "os.environ/BENCH_MASTER_KEY"
"""


class LiteLLMTarget(ProgramTarget):
    """One worker of LiteLLM's proxy."""

    name = "litellm"
    description = "LiteLLM proxy (Python), one worker, one master key, no database; OpenAI API"
    governed = True
    dialects: Sequence[Dialect] = ("openai",)
    model = "gpt-4o"
    package = Package(name="litellm", source="pypi", program="bin/litellm")
    # It imports for the better part of a minute on a busy core.
    start_seconds_max = 180.0

    def start(self, context: TargetContext, port: int) -> Start:
        configuration = context.directory / "config.yaml"
        configuration.write_text(_CONFIGURATION.format(upstream=context.upstream_url))
        key = f"sk-{secrets.token_hex(16)}"
        environment = {
            "BENCH_MASTER_KEY": key,
            "BENCH_PROVIDER_KEY": PLACEHOLDER_KEY,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_LOG": "ERROR",
        }
        if context.ca_file is not None:
            environment["SSL_CERT_FILE"] = context.ca_file
        argv = [
            str(self.package.path),
            *("--config", str(configuration), "--host", "127.0.0.1", "--port", str(port)),
            *("--num_workers", "1"),
        ]
        return Start(argv=argv, environment=environment, keys=[key])

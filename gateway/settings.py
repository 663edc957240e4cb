"""The data plane's settings: what every program reads, plus binds, spool, providers and limits."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import BeforeValidator, Field, SecretStr

from gateway.breaker import BreakerPolicy
from gateway.certificates import CertificateError, Certificates
from gateway.limits import Limits
from gateway.process import memory_bytes
from gateway.provider import AuthStyle, Provider, ProviderError, load, make_provider
from gateway.refusal import Dialect
from gateway.retry import RetryPolicy
from storage.settings import PREFIX, Bind, BindSetting, ServerSettings

_PROVIDER_PREFIX = f"{PREFIX}PROVIDER_"
WORKERS_MAX = 256
"""More than any machine has use for; each is some 60 MB and five connections to the database."""


def count_workers(value: object) -> object:
    """`auto` as a number: the cores this process may use."""
    return len(os.sched_getaffinity(0)) if value == "auto" else value


def _can_export() -> bool:
    try:
        return importlib.util.find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:
        return False


def _statuses(statuses: frozenset[int]) -> str:
    return ",".join(map(str, sorted(statuses)))


class GatewaySettings(ServerSettings):
    TLS_MEND: ClassVar[str] = (
        "KARTA_TLS_CERT_FILE: production needs TLS; name a certificate (and KARTA_TLS_KEY_FILE), or in "
        "KARTA_TRUSTED_PROXIES the addresses of the proxy that terminates it (for example 10.0.0.0/8)"
    )

    gateway_bind: BindSetting = Field(
        default=Bind("127.0.0.1", 8080), description="Where SDK traffic is served."
    )
    metrics_bind: BindSetting | None = Field(
        default=None, description="Where Prometheus metrics are served, on their own port (unset: nowhere)."
    )
    tls_cert_file: Path | None = Field(
        default=None,
        description="The certificate to show to clients, with its chain, in PEM; with it https is served. "
        "Read again on SIGHUP, and when it changes.",
    )
    tls_key_file: Path | None = Field(
        default=None, description="The certificate's private key in PEM, without a passphrase."
    )
    proxy_protocol: bool = Field(
        default=False,
        description="The trusted proxies begin each connection with a header of the PROXY protocol (version "
        "1 or 2), which tells the client's address.",
    )
    spool_dir: Path = Field(
        default=Path("spool"), description="Directory of the usage journal; it must survive restarts."
    )
    public_url: str | None = Field(
        default=None,
        description="The gateway's own origin as clients see it (unset: what their Host header says, and "
        "https where TLS is spoken, here or, by its X-Forwarded-Proto, at a proxy).",
    )
    simulated_base_url: str | None = Field(
        default=None, description="The simulated provider, where kt_test_ keys go (unset: they are refused)."
    )
    simulated_api_key: SecretStr | None = Field(default=None, description="The simulated provider's key.")
    platform_account_shared: bool | None = Field(
        default=None,
        description="The platform's provider account serves several tenants: operations that touch it need "
        "the organization's own key, headers that name a part of it do not pass (unset: true in production).",
    )
    body_bytes_max: int = Field(
        default=Limits().body_bytes_max,
        ge=1024,
        description="Largest request body that is read whole, in bytes.",
    )
    bodies_bytes_max: int | None = Field(
        default=None,
        ge=1024 * 1024,
        description="Request bodies that one worker holds at once, in bytes; beyond it large ones are "
        "answered 503 (unset: half of the memory there is, shared by the workers).",
    )
    bcrypt_threads: int = Field(
        default=Limits().bcrypt_threads, ge=1, le=64, description="Key verifications at once, a thread each."
    )
    connect_seconds: float = Field(
        default=Limits().connect_seconds,
        gt=0,
        description="How long connecting to a provider may take: look-up of its name, TCP and TLS together.",
    )
    upstream_connections_max: int = Field(
        default=Limits().upstream_connections_max,
        ge=1,
        description="Connections of one worker to one provider; further requests wait for one.",
    )
    upstream_queue_seconds: float = Field(
        default=Limits().upstream_queue_seconds,
        gt=0,
        description="How long a request may wait for one of them.",
    )
    retry_statuses: str = Field(
        default=_statuses(RetryPolicy().statuses),
        pattern=r"^([45]\d\d(, ?[45]\d\d)*)?$",
        description="Answers of a provider after which Karta asks it again, comma separated.",
    )
    retries_max: int = Field(
        default=RetryPolicy().retries_max,
        ge=0,
        le=10,
        description="How often a request is tried again at the same provider, before a byte of an answer.",
    )
    retry_seconds: float = Field(
        default=RetryPolicy().seconds,
        ge=0,
        description="From a request's first try to the last it may have.",
    )
    retry_budget_percent: float = Field(
        default=RetryPolicy().budget_share * 100,
        ge=0,
        le=100,
        description="How many of the requests to a provider may be tried again.",
    )
    breaker_failure_percent: float = Field(
        default=BreakerPolicy().failure_share * 100,
        ge=0,
        le=100,
        description="Share of failures at which a provider is left alone for a while (0: never).",
    )
    breaker_open_seconds: float = Field(
        default=BreakerPolicy().open_seconds,
        gt=0,
        description="How long at first.",
    )
    first_byte_seconds: float = Field(
        default=Limits().first_byte_seconds,
        gt=0,
        description="How long a provider may take to begin its answer.",
    )
    between_bytes_seconds: float = Field(
        default=Limits().between_bytes_seconds,
        gt=0,
        description="How long a provider's stream may stay silent.",
    )
    write_stall_seconds: float = Field(
        default=Limits().write_stall_seconds,
        gt=0,
        description="How long a client may take nothing of its answer.",
    )
    key_stale_seconds: float = Field(
        default=Limits().key_stale_seconds,
        ge=Limits().key_fresh_seconds,
        le=86_400,
        description="How long keys that were verified keep working while the database is away: so long may "
        "one that was revoked meanwhile, on a host that cannot be told.",
    )
    drain_seconds: float = Field(
        default=Limits().drain_seconds,
        ge=0,
        description="How long running answers may take to finish at shutdown.",
    )
    drain_notice_seconds: float = Field(
        default=0.0,
        ge=0,
        description="How long requests are still accepted at shutdown while /readyz says no, so that load "
        "balancers see it.",
    )
    workers: Annotated[int, BeforeValidator(count_workers)] = Field(
        default=1,
        ge=1,
        le=WORKERS_MAX,
        description="Gateway processes on this machine, or `auto`: one for each core.",
    )
    unknown_price_usd_per_mtok: Decimal = Field(
        default=Decimal(100),
        ge=0,
        le=1_000_000,
        decimal_places=6,
        description="What money limits are charged for a million tokens of unknown price, in dollars.",
    )
    output_tokens_default: int = Field(
        default=32_000,
        ge=1,
        le=1_000_000_000,
        description="Tokens of output reserved for a request that sets no limit of its own.",
    )
    request_log: str | None = Field(
        default=None,
        description="Where a line of JSON is written for each request: `stderr`, or a file (unset: nowhere).",
    )
    request_log_percent: float = Field(
        default=100.0,
        ge=0,
        le=100,
        description="How many of the requests that ended well are in the request log; all others always are.",
    )
    traces_url: str | None = Field(
        default=None,
        pattern=r"^https?://[^/]",
        description="Where spans go, by OTLP over HTTP: a collector's whole URL, as "
        "`http://127.0.0.1:4318/v1/traces` (unset: nowhere). Needs `pip install 'karta[otel]'`.",
    )
    traces_percent: float = Field(
        default=100.0,
        ge=0,
        le=100,
        description="How many of the requests that come without a `traceparent` have spans; of the others it "
        "says itself.",
    )
    provider_variables: dict[str, SecretStr] = Field(
        default_factory=dict,
        description="KARTA_PROVIDER_<NAME>_BASE_URL, _API_KEY, _CA_FILE and _STREAM_USAGE (whether it may be "
        "asked for the usage of streams) of each upstream provider.",
    )

    @classmethod
    def collect(cls, variables: Mapping[str, object]) -> dict[str, object]:
        fields = super().collect(variables)
        fields["provider_variables"] = {
            name: str(value) for name, value in variables.items() if name.startswith(_PROVIDER_PREFIX)
        }
        return fields

    def listens_on(self) -> dict[str, Bind]:
        return {"KARTA_GATEWAY_BIND": self.gateway_bind}

    def terminates_tls(self) -> bool:
        return self.tls_cert_file is not None

    def certificates(self) -> Certificates | None:
        """The pair to show, or None where TLS is not spoken. Raises `CertificateError`."""
        if self.tls_cert_file is None or self.tls_key_file is None:
            return None
        return Certificates(self.tls_cert_file, self.tls_key_file)

    @property
    def development(self) -> bool:
        return self.env == "development"

    def problems(self) -> list[str]:
        problems = super().problems()
        try:
            self.providers()
            self.simulated()
        except ProviderError as error:
            problems += str(error).splitlines()
        if self.request_log not in (None, "stderr") and not Path(self.request_log).parent.is_dir():
            problems.append(f"KARTA_REQUEST_LOG: there is no folder {Path(self.request_log).parent}")
        if self.traces_url is not None and not _can_export():
            problems.append(
                "KARTA_TRACES_URL: OpenTelemetry is missing; install it by `pip install 'karta[otel]'`"
            )
        return problems + self._tls_problems()

    def _tls_problems(self) -> list[str]:
        problems = []
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            missing = "CERT" if self.tls_cert_file is None else "KEY"
            problems.append(f"KARTA_TLS_{missing}_FILE: not set; TLS needs a certificate and its key")
        try:
            self.certificates()
        except CertificateError as error:
            problems.append(f"KARTA_TLS_CERT_FILE, KARTA_TLS_KEY_FILE: {error}")
        if self.proxy_protocol and not self.trusted_proxies:
            problems.append("KARTA_PROXY_PROTOCOL: KARTA_TRUSTED_PROXIES names nobody who might speak it")
        return problems

    def limits(self) -> Limits:
        """The bounds in force: the defaults with what is set here."""
        return Limits(
            body_bytes_max=self.body_bytes_max,
            bodies_bytes_max=self.bodies_bytes_max or memory_bytes() // 2 // self.workers,
            bcrypt_threads=self.bcrypt_threads,
            connect_seconds=self.connect_seconds,
            upstream_connections_max=self.upstream_connections_max,
            upstream_queue_seconds=self.upstream_queue_seconds,
            first_byte_seconds=self.first_byte_seconds,
            between_bytes_seconds=self.between_bytes_seconds,
            write_stall_seconds=self.write_stall_seconds,
            key_stale_seconds=self.key_stale_seconds,
            drain_seconds=self.drain_seconds,
        )

    def retries(self) -> RetryPolicy:
        """When a request is tried again."""
        return RetryPolicy(
            statuses=frozenset(int(one) for one in self.retry_statuses.split(",") if one),
            retries_max=self.retries_max,
            seconds=self.retry_seconds,
            budget_share=self.retry_budget_percent / 100,
        )

    def breakers(self) -> BreakerPolicy:
        """When a provider is left alone."""
        return BreakerPolicy(
            failure_share=self.breaker_failure_percent / 100,
            open_seconds=self.breaker_open_seconds,
            open_seconds_max=max(BreakerPolicy().open_seconds_max, self.breaker_open_seconds),
        )

    def providers(self) -> dict[str, Provider]:
        """The upstream providers by name. Raises `ProviderError`."""
        environment = {name: value.get_secret_value() for name, value in self.provider_variables.items()}
        return load(environment, development=self.development)

    def price_names(self) -> dict[str, str]:
        """What the price library calls the providers whose names differ."""
        return {name: one.price_name for name, one in self.providers().items() if one.price_name != name}

    def simulated(self) -> dict[Dialect, Provider]:
        """The simulated provider in both dialects, or nothing."""
        if self.simulated_base_url is None:
            return {}
        key = self.simulated_api_key
        try:
            return {
                dialect: make_provider(
                    "simulated",
                    dialect,
                    AuthStyle.CLIENT,
                    self.simulated_base_url,
                    api_key=key.get_secret_value() if key else "sk-simulated",
                    ca_file=None,
                    development=self.development,
                    stream_usage=dialect is Dialect.OPENAI,
                )
                for dialect in (Dialect.ANTHROPIC, Dialect.OPENAI)
            }
        except ProviderError as error:
            raise ProviderError(f"KARTA_SIMULATED_BASE_URL: {error}") from None

    @property
    def unknown_rate(self) -> int:
        """Picodollars for a token whose price is not known."""
        return int(self.unknown_price_usd_per_mtok * 1_000_000)

    @property
    def shared_account(self) -> bool:
        if self.platform_account_shared is None:
            return not self.development
        return self.platform_account_shared

"""The upstream providers: a table, as data, joined with the operator's settings.

`config/providers.toml` names each provider's dialect, base URL and header style;
`KARTA_PROVIDER_<NAME>_BASE_URL`, `_API_KEY`, `_CA_FILE` and `_STREAM_USAGE` override or add. One without a
base URL does not exist. A client can choose none of it: the upstream host comes from here only.
"""

from __future__ import annotations

import re
import ssl
import tomllib
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import msgspec

from gateway.refusal import Dialect
from storage.settings import is_loopback


class AuthStyle(StrEnum):
    """How the provider wants its key."""

    CLIENT = "client"
    """In the header style the client used (Anthropic takes both, by API version)."""
    BEARER = "bearer"
    X_API_KEY = "x-api-key"
    API_KEY = "api-key"


class Origin(msgspec.Struct, frozen=True):
    """Where connections go; what the pool is keyed by."""

    host: str
    port: int
    tls: bool
    ca_file: str | None = None

    def context(self) -> ssl.SSLContext | None:
        """A verifying TLS context (never less: a private endpoint brings its own authority file)."""
        if not self.tls:
            return None
        context = ssl.create_default_context(cafile=self.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        return context


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    dialect: Dialect
    auth: AuthStyle
    origin: Origin
    prefix: bytes
    """Path prefix of the base URL, without a trailing slash."""
    host_header: bytes
    platform_key: bytes | None
    stream_usage: bool = False
    """It knows `stream_options.include_usage`, so that Karta may ask for what a client did not ask for."""
    price_name: str = ""
    """What the price library calls it."""
    root: bytes = b"/v1"
    """What its paths begin with, behind the prefix."""
    usage_dialect: Dialect = Dialect.UNKNOWN
    """In which dialect its answers tell what was used."""

    def path(self, target: bytes) -> bytes:
        """Path and query as it knows them, of a target that begins with `/v1/`."""
        return self.prefix + self.root + target[len(_V1) :]

    def own_path(self, path: bytes) -> bytes:
        """The reverse: what a client calls a path of the provider's."""
        begin = self.prefix + self.root + b"/"
        if path.startswith(begin):
            return _V1 + path[len(begin) - 1 :]
        return path[len(self.prefix) :] if path.startswith(self.prefix + b"/") else path

    def __repr__(self) -> str:
        return f"Provider({self.name!r}, {self.origin!r})"


class Row(msgspec.Struct, forbid_unknown_fields=True):
    """One table of the file, which says what each field means."""

    dialect: Dialect
    auth: AuthStyle
    base_url: str | None = None
    stream_usage: bool = False
    prices: str | None = None
    root: Annotated[str, msgspec.Meta(pattern=r"^(/[!-.0-~]+)*\Z")] = "/v1"
    usage: Dialect | None = None
    check: Annotated[str, msgspec.Meta(pattern=r"^(/[!-.0-~]+)+\Z")] = "/models"


_V1 = b"/v1"
_SETTINGS = ("BASE_URL", "API_KEY", "CA_FILE", "STREAM_USAGE")

# Host and prefix stand in every request as they are: what is not plain ASCII must come encoded already.
_PLAIN = re.compile(r"[!-~]*\Z")


_SWITCHES = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


class ProviderError(ValueError):
    """A provider's configuration cannot be used; the message names the mend, `setting` the variable."""

    def __init__(self, message: str, setting: str = "BASE_URL") -> None:
        super().__init__(message)
        self.setting = setting


def read_table() -> dict[str, Row]:
    """The table from the checkout's `config/`, or from beside this module in an installed wheel."""
    beside = Path(__file__).parent / "providers.toml"
    path = beside if beside.exists() else Path(__file__).parent.parent / "config" / "providers.toml"
    return msgspec.convert(tomllib.loads(path.read_text()), dict[str, Row])


def load(environment: Mapping[str, str], *, development: bool) -> dict[str, Provider]:
    """All providers by name. Raises `ProviderError` listing every problem at once."""
    providers = {}
    problems = []
    unknown = set(environment)
    for name, row in read_table().items():
        setting = f"KARTA_PROVIDER_{name.upper()}"
        variables = {word: environment.get(f"{setting}_{word}") for word in _SETTINGS}
        unknown -= {f"{setting}_{word}" for word in _SETTINGS}
        try:
            provider = _load_one(name, row, variables, development=development)
        except ProviderError as error:
            problems.append(f"{setting}_{error.setting}: {error}")
        else:
            if provider is not None:
                providers[name] = provider
    problems += [
        f"{name}: no such setting; it is KARTA_PROVIDER_<NAME>_{'|_'.join(_SETTINGS)}, for a name of "
        "config/providers.toml"
        for name in sorted(unknown)
    ]
    if problems:
        raise ProviderError("\n".join(problems))
    return providers


def _load_one(
    name: str, row: Row, variables: Mapping[str, str | None], *, development: bool
) -> Provider | None:
    """None for one that has no base URL, as nobody uses it."""
    base_url = variables["BASE_URL"] or row.base_url
    if base_url is None:
        if any(variables.values()):
            raise ProviderError("set it, too: it differs for everybody, so that none is known")
        return None
    provider = make_provider(
        name,
        row.dialect,
        row.auth,
        base_url,
        api_key=variables["API_KEY"],
        ca_file=variables["CA_FILE"],
        development=development,
        stream_usage=_switch(variables["STREAM_USAGE"], row.stream_usage),
        price_name=row.prices,
    )
    return msgspec.structs.replace(
        provider, root=row.root.encode(), usage_dialect=row.usage or provider.dialect
    )


def _switch(value: str | None, otherwise: bool) -> bool:
    if not value:
        return otherwise
    if value.lower() not in _SWITCHES:
        raise ProviderError("say true or false", "STREAM_USAGE")
    return _SWITCHES[value.lower()]


def make_provider(
    name: str,
    dialect: Dialect,
    auth: AuthStyle,
    base_url: str,
    *,
    api_key: str | None,
    ca_file: str | None,
    development: bool,
    stream_usage: bool = False,
    price_name: str | None = None,
) -> Provider:
    """One provider from its base URL: an origin with an optional path prefix, without `/v1`."""
    try:
        parts = urlsplit(base_url)
        port = parts.port
    except ValueError as error:
        raise ProviderError(f"not a URL ({error})") from None
    host = parts.hostname
    if parts.scheme not in ("http", "https") or not host:
        raise ProviderError("give an http(s) URL such as https://api.anthropic.com")
    if parts.query or parts.fragment or parts.username or parts.password:
        raise ProviderError("give an origin and an optional path only: no user, query or fragment")
    if not _PLAIN.match(host) or not _PLAIN.match(parts.path):
        raise ProviderError("host and path must be plain ASCII: punycode the one, percent-encode the other")
    tls = parts.scheme == "https"
    if not tls and not development and not is_loopback(host):
        raise ProviderError("plain http is allowed only to loopback; use https")
    prefix = parts.path.rstrip("/")
    if prefix.endswith("/v1"):
        raise ProviderError("leave out /v1: it is part of each request's own path")
    default_port = 443 if tls else 80
    shown = f"[{host}]" if ":" in host else host
    origin = Origin(host, port or default_port, tls, ca_file)
    if ca_file is not None:
        _try_authority(origin)
    return Provider(
        name=name,
        dialect=dialect,
        auth=auth,
        origin=origin,
        prefix=prefix.encode(),
        host_header=(shown if port in (None, default_port) else f"{shown}:{port}").encode(),
        platform_key=_header_value(api_key) if api_key else None,
        stream_usage=stream_usage,
        price_name=price_name or name,
        usage_dialect=dialect,
    )


def _try_authority(origin: Origin) -> None:
    """Say at the start what would otherwise break the first request."""
    try:
        origin.context()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it holds no certificate"
        raise ProviderError(f"the file of certificates cannot be used: {reason}", "CA_FILE") from None


def _header_value(secret: str) -> bytes:
    value = secret.strip().encode("ascii", "replace")
    if not value or any(byte < 0x21 or byte > 0x7E for byte in value) or value != secret.strip().encode():
        raise ProviderError("it has characters that cannot stand in a header", "API_KEY")
    return value

"""Where the admin pages try a provider's key: the gateway's own table of providers, put in their words.

The pages know nothing of the gateway, so this is done here, where both are known. Base URLs and authority
files are all that is read of the operator's settings: the platform's own keys are no business of the pages.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from admin.provider_check import Endpoint
    from gateway.provider import Provider

PREFIX = "KARTA_PROVIDER_"
SUFFIXES = ("_BASE_URL", "_CA_FILE")
ANTHROPIC_VERSION = "2023-06-01"
"""The API has had no other."""


def is_wanted(variable: str) -> bool:
    """Whether the pages may read this setting of a provider."""
    return variable.startswith(PREFIX) and variable.endswith(SUFFIXES)


def load_endpoints(variables: Mapping[str, object], *, development: bool) -> dict[str, Endpoint]:
    """By the provider's name; those without a base URL are left out. Raises `ProviderError`."""
    from gateway.provider import load, read_table

    table = read_table()
    environment = {name: str(value) for name, value in variables.items() if is_wanted(name)}
    found = load(environment, development=development)
    return {name: _endpoint(provider, table[name].check) for name, provider in found.items()}


def _endpoint(provider: Provider, path: str) -> Endpoint:
    from admin.provider_check import Endpoint
    from gateway.provider import AuthStyle
    from gateway.refusal import Dialect

    bearer = provider.auth is AuthStyle.BEARER
    header = {AuthStyle.BEARER: "Authorization", AuthStyle.CLIENT: "x-api-key"}.get(
        provider.auth, provider.auth.value
    )
    scheme = "https" if provider.origin.tls else "http"
    anthropic = provider.dialect is Dialect.ANTHROPIC
    return Endpoint(
        url=f"{scheme}://{provider.host_header.decode()}{provider.path(b'/v1' + path.encode()).decode()}",
        header=header,
        scheme="Bearer " if bearer else "",
        headers={"anthropic-version": ANTHROPIC_VERSION} if anthropic else {},
        ca_file=provider.origin.ca_file,
    )

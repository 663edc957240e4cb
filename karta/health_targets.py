"""What the health job looks at, out of the settings: the addresses that users go by, and the providers that
the gateway has a key of the platform's own for."""

from __future__ import annotations

from collections.abc import Mapping

from karta.health_probes import Endpoint, Targets
from karta.terminal import CommandError

PREFIX = "KARTA_PROVIDER_"


def load_targets(variables: Mapping[str, object]) -> Targets:
    """Of KARTA_… variables by name. Raises `CommandError` for providers that are not sound."""
    production = str(variables.get("KARTA_ENV", "development")) == "production"
    return Targets(
        gateway_url=_origin(variables.get("KARTA_PUBLIC_URL")),
        admin_url=_origin(variables.get("KARTA_ADMIN_URL")),
        providers=load_endpoints(variables, development=not production),
        # Without a token mail waits: in development for whoever opens its page, in production in vain.
        sends_mail=production or "KARTA_POSTMARK_TOKEN" in variables,
        takes_payments="KARTA_STRIPE_API_KEY" in variables,
    )


def load_endpoints(variables: Mapping[str, object], *, development: bool) -> dict[str, Endpoint]:
    """By the provider's name."""
    from gateway.provider import ProviderError, load

    given = {name: str(value) for name, value in variables.items() if name.startswith(PREFIX)}
    try:
        found = load(given, development=development)
    except ProviderError as error:
        raise CommandError(str(error)) from None
    endpoints = {}
    for name, provider in found.items():
        if f"{PREFIX}{name.upper()}_API_KEY" not in given:
            continue
        scheme = "https" if provider.origin.tls else "http"
        path = provider.path(b"/v1/models").decode()
        host = provider.host_header.decode()
        endpoints[name.replace("_", "-")] = Endpoint(f"{scheme}://{host}{path}", provider.origin.ca_file)
    return endpoints


def _origin(value: object) -> str | None:
    return str(value).rstrip("/") if value else None

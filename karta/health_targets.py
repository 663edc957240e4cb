"""What the health job looks at, out of the settings: the addresses that users go by, the providers that the
gateway has a key of the platform's own for, and payments where there is a key for them.

It never uses those keys, so where it runs with secrets of its own it is better told in words: `PARTS`.
"""

from __future__ import annotations

from collections.abc import Mapping

from karta.health_probes import Endpoint, Targets
from karta.terminal import CommandError

PREFIX = "KARTA_PROVIDER_"
PARTS = "KARTA_HEALTH_PARTS"
"""Names what is looked at besides, as the status page does: `provider-openai`, `payments`."""
_PAYMENTS, _PROVIDER = "payments", "provider-"
_SHAPE = "write provider-NAME, or payments, separated by commas"


def load_targets(variables: Mapping[str, object]) -> Targets:
    """Of KARTA_… variables by name. Raises `CommandError` for providers that are not sound, and for parts
    that there are not."""
    parts = _parts(variables)
    production = str(variables.get("KARTA_ENV", "development")) == "production"
    return Targets(
        gateway_url=_origin(variables.get("KARTA_PUBLIC_URL")),
        admin_url=_origin(variables.get("KARTA_ADMIN_URL")),
        providers=load_endpoints(variables, parts, development=not production),
        # Without a token mail waits: in development for whoever opens its page, in production in vain.
        sends_mail=production or "KARTA_POSTMARK_TOKEN" in variables,
        takes_payments="KARTA_STRIPE_API_KEY" in variables or _PAYMENTS in parts,
    )


def _parts(variables: Mapping[str, object]) -> frozenset[str]:
    from storage.settings import split_list

    given = split_list(variables.get(PARTS, ""))
    parts = frozenset(map(str, given)) if isinstance(given, list) else frozenset({str(given)})
    for part in sorted(parts):
        if part != _PAYMENTS and not part.startswith(_PROVIDER):
            raise CommandError(f"{PARTS}: there is no {part!r} to look at: {_SHAPE}")
    return parts


def load_endpoints(
    variables: Mapping[str, object], parts: frozenset[str], *, development: bool
) -> dict[str, Endpoint]:
    """By the provider's name."""
    from gateway.provider import ProviderError, load

    given = {name: str(value) for name, value in variables.items() if name.startswith(PREFIX)}
    try:
        found = load(given, development=development)
    except ProviderError as error:
        raise CommandError(str(error)) from None
    endpoints = {}
    for name, provider in found.items():
        part = f"{_PROVIDER}{name.replace('_', '-')}"
        if f"{PREFIX}{name.upper()}_API_KEY" not in given and part not in parts:
            continue
        scheme = "https" if provider.origin.tls else "http"
        path = provider.path(b"/v1/models").decode()
        host = provider.host_header.decode()
        endpoints[part.removeprefix(_PROVIDER)] = Endpoint(
            f"{scheme}://{host}{path}", provider.origin.ca_file
        )
    if unknown := {part for part in parts if part != _PAYMENTS} - {_PROVIDER + name for name in endpoints}:
        raise CommandError(
            f"{PARTS}: there is no provider behind {min(unknown)!r}: it is provider- and a name of "
            "config/providers.toml, with dashes"
        )
    return endpoints


def _origin(value: object) -> str | None:
    return str(value).rstrip("/") if value else None

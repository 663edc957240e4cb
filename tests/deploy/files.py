"""The files of `deploy/`, read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"
BASE = DEPLOY / "kubernetes" / "base"
MASTER_KEYS = "1:" + "A" * 43 + "="
STANDING_FOR_SECRETS = {
    "KARTA_DATABASE_URL": "postgresql://karta:x@db/karta",
    "KARTA_MASTER_KEYS": MASTER_KEYS,
    "KARTA_STRIPE_API_KEY": "rk_" + "live_x",
    "KARTA_STRIPE_WEBHOOK_SECRET": "whsec_x",
    "KARTA_SENTRY_DSN": "https://key@sentry.example.com/1",
}


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())
    return found


def filled_in(environment: dict[str, Any]) -> dict[str, str]:
    """The compose file's variables in place of their names, as an `.env` with nothing optional has them."""
    values = {
        "POSTGRES_PASSWORD": "x",
        "KARTA_MASTER_KEYS": MASTER_KEYS,
        "GATEWAY_HOST": "g.example",
        "ADMIN_HOST": "a.example",
    }

    def fill(match: re.Match[str]) -> str:
        return values.get(match[1], (match[3] or "") if match[2] == ":-" else "")

    return {
        name: re.sub(r"\$\{(\w+)(?:(:[-?])([^}]*))?\}", fill, str(value))
        for name, value in environment.items()
    }


def manifests() -> list[dict[str, Any]]:
    """Each document of the base's files, as it stands there."""
    names = yaml.safe_load((BASE / "kustomization.yaml").read_text())["resources"]
    return [one for name in names for one in yaml.safe_load_all((BASE / name).read_text())]


def manifest(kind: str, name: str) -> dict[str, Any]:
    (found,) = [one for one in manifests() if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    """The specs of pods, by what makes them."""
    for one in manifests():
        spec = one.get("spec", {})
        template = spec.get("jobTemplate", {}).get("spec", spec).get("template")
        if template is not None:
            yield one["metadata"]["name"], template["spec"]


def containers() -> Iterator[tuple[str, dict[str, Any]]]:
    """All of them, sidecars too, by what makes their pods."""
    for name, pod in pods():
        for one in [*pod.get("initContainers", []), *pod["containers"]]:
            yield name, one


def environment_of(container: dict[str, Any]) -> dict[str, str]:
    """What a container is given; something stands for each secret."""
    found: dict[str, str] = {}
    for source in container.get("envFrom", []):
        found |= manifest("ConfigMap", source["configMapRef"]["name"])["data"]
    for one in container.get("env", []):
        found[one["name"]] = one.get("value") or STANDING_FOR_SECRETS.get(
            one["name"], "a-secret-of-some-length"
        )
    return found


def units() -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted((DEPLOY / "systemd").glob("karta-*"))}

"""The manifests against Kubernetes' own schemas, and the compose file against its specification.

Their validators are too large for each test environment: `tox -e deploy` has them."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml

from tests.deploy.files import compose, manifests

VERSIONS = ("1.30", "1.33", "1.37")


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_the_manifests(version: str) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    for one in manifests():
        kubernetes_validate.validate(one, version, strict=True)
    broken = copy.deepcopy(manifests()[-1])
    broken["spec"]["podSelectr"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, version, strict=True)


def test_compose_takes_its_file() -> None:
    compose_spec = pytest.importorskip("compose_spec")

    def check(document: dict[str, Any]) -> None:
        known = {name: one for name, one in document.items() if not name.startswith("x-")}
        compose_spec.PyCompose.from_yaml(yaml.safe_dump(known)).validate()

    check(compose())
    broken = copy.deepcopy(compose())
    broken["services"]["admin"]["imagee"] = "x"
    with pytest.raises(ValueError, match="imagee"):
        check(broken)

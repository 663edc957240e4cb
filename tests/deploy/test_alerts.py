"""Alerts and dashboard speak of figures that there are, and each alert of a runbook that there is."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from tests.deploy.files import DEPLOY, ROOT

METRICS = set(
    re.findall(r"^- `(karta_\w+)`", (ROOT / "docs" / "reference" / "metrics.md").read_text(), re.MULTILINE)
)
RULES = DEPLOY / "prometheus" / "alerts.yaml"
RUNBOOKS = ROOT / "docs" / "how-to" / "runbooks"


def _alerts() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    return list(group["rules"])


def _unknown(text: str) -> set[str]:
    named = set(re.findall(r"\bkarta_gateway_\w+", text))
    return {
        name
        for name in named
        if name not in METRICS and re.sub(r"_(bucket|sum|count)$", "", name) not in METRICS
    }


def test_alerts_are_of_figures_that_there_are() -> None:
    for alert in _alerts():
        assert _unknown(alert["expr"]) == set()
        assert alert["labels"]["severity"] in ("page", "ticket")


def test_each_alert_has_its_runbook_and_each_is_in_the_index() -> None:
    index = (RUNBOOKS / "index.md").read_text()
    for alert in _alerts():
        runbook = ROOT / alert["annotations"]["runbook"]
        assert runbook.read_text().startswith(f"# {alert['alert']}\n")
        assert _unknown(runbook.read_text()) == set()
        assert f"[{alert['alert']}]({runbook.name})" in index
    assert [
        path.name for path in RUNBOOKS.glob("*.md") if path.name != "index.md" and path.name not in index
    ] == []


def test_the_dashboard_shows_figures_that_there_are() -> None:
    text = (DEPLOY / "grafana" / "karta.json").read_text()
    assert _unknown(text) == set()
    dashboard = json.loads(text)
    panels = [one for one in dashboard["panels"] if one["type"] != "row"]
    assert len({one["id"] for one in dashboard["panels"]}) == len(dashboard["panels"])
    assert all(one["targets"] for one in panels)


def test_prometheus_takes_the_rules_and_they_fire() -> None:
    if shutil.which("promtool") is None:
        pytest.skip("no promtool here (Debian: prometheus)")
    for command in (["check", "rules", "--lint-fatal", str(RULES)], ["test", "rules", "alerts_test.yaml"]):
        subprocess.run(["promtool", *command], check=True, cwd=RULES.parent, capture_output=True)

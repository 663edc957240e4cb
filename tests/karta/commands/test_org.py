"""`karta org …` on a real database."""

from __future__ import annotations

import json
from uuid import UUID, uuid4

from karta.commands.org import PLANS
from storage.model import Plan
from tests.karta.conftest import Karta


def test_an_organization_is_made_and_changes_plan(karta: Karta, database_url: str) -> None:
    code, out, _ = karta("org", "create", "--name", "Acme", "--json", "--database-url", database_url)
    made = json.loads(out)
    assert code == 0
    assert (made["name"], made["plan"], made["status"]) == ("Acme", "free", "active")
    org_id = str(UUID(made["org_id"]))
    code, out, _ = karta("org", "set-plan", "--org", org_id, "pro", "--json", "--database-url", database_url)
    assert code == 0
    assert json.loads(out)["plan"] == "pro"
    code, out, _ = karta("org", "set-plan", "--org", org_id, "enterprise", "--database-url", database_url)
    assert out == f"{org_id}  Acme  enterprise\n"


def test_organizations_are_listed_a_page_at_a_time(karta: Karta, database_url: str) -> None:
    at = ("--database-url", database_url)
    assert "karta org create" in karta("org", "list", *at)[1]
    made = [json.loads(karta("org", "create", "--name", name, "--json", *at)[1]) for name in ("A", "B", "C")]
    assert json.loads(karta("org", "list", "--json", *at)[1]) == {"organizations": made}
    code, out, _ = karta("org", "list", "--limit", "2", *at)
    assert code == 0
    assert [line.split()[1] for line in out.splitlines()[1:3]] == ["A", "B"]
    assert f"--after {made[1]['org_id']}" in out
    rest = json.loads(karta("org", "list", "--after", made[1]["org_id"], "--json", *at)[1])
    assert rest == {"organizations": made[2:]}
    assert karta("org", "list", "--after", uuid4(), *at)[0] == 1
    assert karta("org", "list", "--limit", "0", *at)[0] == 2


def test_an_unknown_organization_is_one_clear_line(karta: Karta, database_url: str) -> None:
    code, out, err = karta("org", "set-plan", "--org", uuid4(), "pro", "--database-url", database_url)
    assert (code, out, err.count("\n")) == (1, "", 1)


def test_an_unknown_plan_is_a_usage_error(karta: Karta) -> None:
    assert karta("org", "create", "--name", "x", "--plan", "gold")[0] == 2


def test_the_plans_are_the_models() -> None:
    assert tuple(plan.value for plan in Plan) == PLANS


def test_server_timing_is_turned_on_and_off(karta: Karta, database_url: str) -> None:
    at = ("--json", "--database-url", database_url)
    org_id = json.loads(karta("org", "create", "--name", "Acme", *at)[1])["org_id"]
    for wanted in ("on", "off"):
        code, out, _ = karta("org", "set-server-timing", "--org", org_id, wanted, *at)
        assert (code, json.loads(out)["org_id"]) == (0, org_id)
    told = karta("org", "set-server-timing", "--org", org_id, "on", "--database-url", database_url)[1]
    assert told == f"{org_id}  Acme  server-timing is on\n"
    assert karta("org", "set-server-timing", "--org", org_id, "sometimes", *at)[0] == 2

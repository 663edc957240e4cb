"""Budgets, limits and reports of a running `karta up`: what a command sets is what requests meet, and what
requests used is what a command shows."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.karta.conftest import Document, Karta
from tests.karta.processes import Up, wait_until

# Of a known price; it may cost two cents at most, and costs far less.
BODY = {
    "model": "claude-sonnet-4-5",
    "max_tokens": 1000,
    "messages": [{"role": "user", "content": "hello"}],
}


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with Up(tmp_path_factory.mktemp("limited") / "data") as running:
        running.wait_ready()
        yield running


class Commands:
    """Commands on the running instance, each with its one document."""

    def __init__(self, karta: Karta, up: Up) -> None:
        self._karta = karta
        self._up = up
        self.org_id: str = up.told["org_id"]

    def __call__(self, *arguments: object) -> Document:
        code, out, err = self._karta(*arguments, "--json", "--data-dir", self._up.data_dir)
        assert code == 0, err
        found: Document = json.loads(out)
        return found

    def mint(self, name: str) -> Document:
        return self("keys", "mint", "--org", self.org_id, "--name", name)

    def report(self, *by: str) -> Document:
        return self("usage", "report", "--org", self.org_id, *by)

    def ask(self, key: str) -> int:
        """The status of a request on a connection of its own, which either worker may get."""
        headers = {"x-api-key": key, "anthropic-version": "2023-06-01"}
        # Nothing to verify on plain loopback.
        answer = httpx.post(
            f"{self._up.told['gateway_url']}/v1/messages", json=BODY, headers=headers, verify=False
        )
        return answer.status_code


@pytest.fixture
def run(karta: Karta, up: Up) -> Commands:
    return Commands(karta, up)


def test_a_budget_holds_and_the_report_says_what_was_spent(run: Commands) -> None:
    before = run.report()
    minted = run.mint("poor")
    key, key_id = minted["key"], minted["key_id"]
    [told] = run("budget", "set", "--key", key_id, "--usd", "0.03", "--period", "day")["budgets"]
    assert (told["usd"], told["spent_usd"], told["period"], told["hard"]) == (0.03, 0, "day", True)
    statuses = [run.ask(key) for _ in range(80)]
    passed = statuses.count(200)
    # What the one worker has free for a moment, the other lacks.
    assert statuses[0] == 200
    assert statuses[-1] == 402
    assert statuses.count(402) == 80 - passed
    wait_until(lambda: run.report()["requests"] == before["requests"] + passed)

    whole = run.report()
    spent = whole["cost_usd"] - before["cost_usd"]
    assert 0 < spent <= 0.03
    assert whole["output_tokens"] > before["output_tokens"]
    assert whole["input_tokens"] > before["input_tokens"]
    [row] = [row for row in run.report("--by", "key")["rows"] if row["key"] == key_id]
    assert row["requests"] == passed
    assert row["cost_usd"] == pytest.approx(spent)
    assert sum(row["requests"] for row in run.report("--by", "day")["rows"]) == whole["requests"]
    models = {row["model"]: row["requests"] for row in run.report("--by", "model")["rows"]}
    assert models["claude-sonnet-4-5"] >= passed
    [shown] = run("budget", "show", "--key", key_id)["budgets"]
    assert shown["spent_usd"] == row["cost_usd"]

    # Raised while it runs; then soft.
    run("budget", "set", "--key", key_id, "--usd", "10", "--period", "day")
    wait_until(lambda: run.ask(key) == 200)
    run("budget", "set", "--key", key_id, "--usd", "0.000001", "--period", "day", "--soft")
    wait_until(lambda: [run.ask(key) for _ in range(4)] == [200] * 4)


def test_limits_hold(run: Commands) -> None:
    minted = run.mint("limited")
    key, key_id = minted["key"], minted["key_id"]
    told = run("limits", "set", "--key", key_id, "--requests-per-minute", 7, "--concurrent", 3)["limits"]
    assert {(one["kind"], one["period"], one["amount"], one["hard"]) for one in told} == {
        ("requests", "minute", 7, True),
        ("concurrent", "none", 3, True),
    }
    statuses = [run.ask(key) for _ in range(22)]
    assert set(statuses) == {200, 429}
    # The minute may have turned once.
    assert statuses.count(200) in range(7, 15)
    run("limits", "set", "--key", key_id, "--requests-per-minute", 0)
    wait_until(lambda: [run.ask(key) for _ in range(10)] == [200] * 10)
    [left] = run("limits", "show", "--key", key_id)["limits"]
    assert (left["kind"], left["amount"]) == ("concurrent", 3)

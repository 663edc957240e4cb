"""`bench compare`: what it understands, writes, and exits with."""

import argparse
import json
from pathlib import Path

import pytest

from bench.command import main, parser
from bench.compare.command import changes_from, exit_code, options_from, show, suite_from, url_targets
from tests.bench.compare.seen import comparison, summary


def parsed(*arguments: str) -> argparse.Namespace:
    return parser().parse_args(["compare", *arguments])


def test_the_suites_figures_hold_unless_others_are_given() -> None:
    given = parsed("--arms", "direct,relay", "--rounds", "7", "--idle-streams", "9", "--streams", "11")
    suite = suite_from(given)
    options, targets = options_from(given, suite)
    assert (options.rounds, options.seconds, options.suite) == (7, suite.seconds, "headline")
    assert [target.name for target in targets] == options.arms == ["direct", "relay"]
    by_name = {scenario.name: scenario for scenario in suite.scenarios()}
    assert (by_name["idle"].connections, by_name["paced"].connections) == (9, 11)
    smoke = parsed("--smoke")
    options, _ = options_from(smoke, suite_from(smoke))
    assert options.smoke
    assert options.arms == ["direct", "relay", "nginx", "naive", "karta"]


def test_no_idle_streams_leaves_their_scenarios_out() -> None:
    assert not any(one.idle for one in suite_from(parsed("--idle-streams", "0")).scenarios())
    assert any(one.idle for one in suite_from(parsed()).scenarios())


def test_options_of_the_suite_are_set() -> None:
    assert changes_from(parsed("--set", "most_keys=50", "--set", "rate=2.5")) == {
        "most_keys": 50,
        "rate": 2.5,
    }
    suite = suite_from(parsed("--suite", "keys", "--set", "most_keys=50"))
    assert "keys@50" in [scenario.name for scenario in suite.scenarios()]


def test_ones_own_gateway_is_an_arm(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("sk-mine\n")
    given = parsed(
        *("--url", "mine=http://127.0.0.1:9/prefix", "--key-file", str(keys), "--url-dialect", "openai"),
        *("--url-pid", "5", "--suite", "smoke"),
    )
    [target] = url_targets(given)
    assert (target.name, list(target.dialects), target.check) == ("mine", ["openai"], "text")
    options, targets = options_from(given, suite_from(given))
    assert options.arms[-1] == "mine"
    assert targets[-1].description == "http://127.0.0.1:9/prefix"
    assert "sk-mine" not in str(vars(given))


def test_compare_tells_people_and_programs(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "seen.json", tmp_path / "out"
    assert main(["compare", "--smoke", "--arms", "direct", "--json", str(path), "--out", str(out)]) == 0
    assert "unary requests/s" in capfd.readouterr().out
    document = json.loads(path.read_text())
    assert document["started"] == ["direct"]
    assert document["rounds"]["unary"]["direct"][0]["requests"] > 0
    assert document["ratios"] == []
    assert document["machine"]["processor"]
    assert "<h1>Smoke</h1>" in (out / "report.html").read_text()


def test_json_to_stdout_leaves_the_table_to_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    seen = comparison({"unary": {"relay": [summary(rate=10)]}})
    show(seen, "-")
    written = capfd.readouterr()
    assert json.loads(written.out)["started"] == ["relay"]
    assert "unary requests/s" in written.err


def test_an_arm_that_had_to_take_part_and_did_not_is_a_failure() -> None:
    assert exit_code(comparison({}, unavailable={"nginx": "not installed"})) == 0
    assert exit_code(comparison({}, unavailable={"relay": "did not start"}, missing=["relay"])) == 1
    assert exit_code(comparison({}, broken=["relay, unary: 1 body"])) == 1

"""The command line: what it understands, what it prints, what it exits with."""

import argparse
import json
from pathlib import Path

import pytest

from bench.command import main, parser, plan_from
from tests.bench.scripted_server import scripted_server, unary


def parsed(*arguments: str) -> argparse.Namespace:
    return parser().parse_args(arguments)


def test_run_understands_its_arguments(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("kt_one\n\nkt_two\n")
    plan = plan_from(
        parsed(
            *(
                "run",
                "http://h:1",
                "--key-file",
                str(keys),
                "--dialect",
                "openai",
                "--stream",
                "--model",
                "gpt",
            ),
            *(
                "--connections",
                "5",
                "--rate",
                "9.5",
                "--seconds",
                "2",
                "--expect-events",
                "7",
                "--max-tokens",
                "3",
            ),
        )
    )
    assert plan.keys == ["kt_one", "kt_two"]
    assert (plan.driver, plan.rate_per_second, plan.connections) == ("open", 9.5, 5)
    assert plan.expectation.events == 7
    assert plan.question.model_name == "gpt"
    assert plan.question.stream
    assert plan_from(parsed("run", "http://h:1")).driver == "closed"
    assert plan_from(parsed("run", "http://h:1")).connections == 32
    assert plan_from(parsed("run", "http://h:1", "--rate", "9")).connections == 512


def test_run_prints_json_and_exits_by_what_was_right(capfd: pytest.CaptureFixture[str]) -> None:
    with scripted_server(lambda _: [unary(b"{}")]) as server:
        arguments = ("run", server.base_url, "--connections", "2", "--seconds", "0.1", "--warmup", "0")
        assert main([*arguments, "--json"]) == 0
        document = json.loads(capfd.readouterr().out)
        assert document["requests"] > 0
        assert document["failures"] == {}
        assert main(arguments) == 0
        assert "requests/s" in capfd.readouterr().out
    with scripted_server(lambda _: [unary(b"no", status="401 Unauthorized")]) as server:
        assert main(["run", server.base_url, "--seconds", "0.1", "--warmup", "0", "--json"]) == 1
        assert json.loads(capfd.readouterr().out)["failures"]["status"] > 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "http://h", "--connections", "0"),
        ("run", "http://h", "--key-file", "/nonexistent"),
        ("run", "http://h", "--processes", "0"),
        ("run",),
        ("run", "http://h", "--connections", "many"),
        ("nosuch",),
        (),
        ("compare", "--nosuch"),
        ("capacity", "--set", "database_sessions=0"),
        ("compare", "--arms", "envoy"),
        ("compare", "--streams", "0"),
        ("compare", "--suite", "nosuch"),
        ("compare", "--set", "connections=many"),
        ("compare", "--url", "karta=http://h"),
    ],
)
def test_usage_errors_are_one_line_and_exit_2(
    arguments: tuple[str, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    error = capfd.readouterr().err
    assert error.startswith("karta bench: ")
    assert error.count("\n") == 1


def test_a_target_that_is_no_http_url_fails_with_its_reason(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "ftp://h", "--seconds", "0.1"]) == 1
    assert "http:// or https://" in capfd.readouterr().err

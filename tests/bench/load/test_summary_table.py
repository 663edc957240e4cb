"""What a person reads after a run."""

from io import StringIO

import msgspec
from rich.console import Console

from bench.load.answer import Failure
from bench.load.summary import summarize
from bench.load.summary_table import print_summary
from tests.bench.load.test_summary import result


def printed(**changes: object) -> str:
    out = StringIO()
    summary = msgspec.structs.replace(summarize(result(), pace_ms=0), **changes)
    print_summary(summary, Console(file=out, width=100))
    return out.getvalue()


def test_rates_and_percentiles_are_shown() -> None:
    text = printed()
    assert "50 requests/s, 200 events/s over 2.0 s; 100 answers checked" in text
    assert "latency" in text
    assert "between events" not in text
    assert "10.0% of the events" in text
    assert "--processes" not in text


def test_a_busy_generator_and_failures_are_told() -> None:
    text = printed(
        generator_cpu_share=0.95,
        waited_share=0.5,
        failures={Failure.STATUS: 3},
        examples={Failure.STATUS: "status 401 [/x]"},
    )
    assert "--processes" in text
    assert "50% of the questions waited" in text
    assert "3 status: status 401 [/x]" in text


def test_a_run_without_any_answer_says_so() -> None:
    assert "Nothing was answered" in printed(answers_checked=0)
    assert "Nothing was answered" not in printed()

"""What a person reads after a comparison."""

from io import StringIO

from rich.console import Console

from bench.compare.comparison import Comparison
from bench.compare.table import print_comparison
from tests.bench.compare.seen import comparison, idle, summary


def printed(seen: Comparison) -> str:
    out = StringIO()
    print_comparison(seen, Console(file=out, width=140))
    return out.getvalue()


def test_arms_ratios_absences_and_wrongs_are_told() -> None:
    text = printed(
        comparison(
            {
                "unary": {
                    "direct": [summary(rate=2000)],
                    "relay": [summary(rate=1900, cpu_seconds=1.0)],
                    "karta": [summary(rate=1300, cpu_seconds=1.0)],
                }
            },
            idle={"idle": {"karta": idle(10 * 1024)}},
            unavailable={"nginx": "not installed [sic]"},
            dialects={"relay": ["openai"]},
            declined={"paced": {"relay": "it says [/] else"}},
            overloaded={"load": {"relay": 500.0}},
            broken=["naive, unary: 1 body (b'[/]')"],
        )
    )
    assert "1,900 †" in text
    assert "† the harness is the limit" in text
    assert "requests/s, karta / relay" in text
    assert "0.68 x" in text
    assert "yes" in text
    assert "10.0" in text
    assert "nginx took no part: not installed [sic]" in text
    assert "relay is not asked by the Anthropic API" in text
    assert "relay is out of paced: it says [/] else" in text
    assert "load: 500 requests/s are too many for relay" in text
    assert "wrong: naive, unary: 1 body (b'[/]')" in text
    assert "Others were at work before the run (load 2.0)" in text
    assert "a processor, 2 cores, target on core 0" in text


def test_a_smoke_test_says_nothing_about_goals() -> None:
    seen = comparison({"unary": {"relay": [summary(rate=10)], "karta": [summary(rate=1)]}})
    seen.goals = False
    assert "goal" not in printed(seen)

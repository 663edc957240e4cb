"""A person sees what is measured, how far it is, and each figure as it comes."""

from io import StringIO

from rich.console import Console

from bench.compare.progress import Listener, LiveProgress, in_short
from tests.bench.compare.seen import summary


def test_figures_are_told_in_short() -> None:
    assert in_short(summary(rate=1234, p50=1.5, p99=9)) == "1,234 requests/s, p50 1.50 ms, p99 9.00 ms"
    assert in_short(summary(rate=10, events=True)).startswith("10 events/s")


def test_each_measurement_leaves_a_line() -> None:
    out = StringIO()
    with LiveProgress(Console(file=out, width=120)) as progress:
        progress.steps(2)
        progress.say("unary [sic]")
        progress.measured("relay", "unary [sic]", summary(rate=7))
        progress.stepped()
        progress.measured("naive", "unary", None)
    assert "relay  unary [sic]: 7 requests/s" in out.getvalue()
    assert "naive  unary: no figures" in out.getvalue()
    Listener().measured("relay", "unary", None)

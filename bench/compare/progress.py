"""Tell a person how far a comparison is: one line and a bar, on stderr."""

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bench.load.summary import Summary


class Listener:
    """Is told of a comparison's steps; this one does not care."""

    def steps(self, total: int) -> None:
        """So many measurements will be made."""

    def say(self, text: str) -> None:
        """This is being done now."""

    def measured(self, arm: str, title: str, summary: Summary | None) -> None:
        """A load has ended; None if it has no figures."""

    def stepped(self) -> None:
        """One of the measurements is over."""


def in_short(summary: Summary) -> str:
    """Return a run's main figures in a few words."""
    rate = (
        f"{summary.events_per_second:,.0f} events/s"
        if summary.events
        else f"{summary.requests_per_second:,.0f} requests/s"
    )
    latency = summary.first_ms if summary.events else summary.latency_ms
    if latency is None:
        return rate
    return f"{rate}, p50 {latency.p50:.2f} ms, p99 {latency.p99:.2f} ms"


class LiveProgress(Listener):
    """A bar that says what is being measured, how long it will take, and prints each figure as it comes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=console,
            transient=True,
        )
        self._task = self._progress.add_task("starting", total=None)

    def __enter__(self) -> "LiveProgress":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def steps(self, total: int) -> None:
        self._progress.update(self._task, total=total)

    def say(self, text: str) -> None:
        self._progress.update(self._task, description=escape(text))

    def measured(self, arm: str, title: str, summary: Summary | None) -> None:
        figures = "[red]no figures[/]" if summary is None else in_short(summary)
        self._console.print(f"{escape(arm):>16}  {escape(title)}: {figures}", highlight=False, soft_wrap=True)

    def stepped(self) -> None:
        self._progress.advance(self._task)

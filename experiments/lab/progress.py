"""What happens, how much is done, how long it will take: a live line, or plain lines in a log."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn
from rich.progress import Progress as Bar

from experiments.lab.run import Run


class Progress:
    """Progress of a plan of runs; the time left is the guessed cost scaled by what was measured."""

    quiet_for = 60.0
    """Seconds between lines where the output is not a terminal."""

    def __init__(self, total: int, stored: int, cost: float, workers: int) -> None:
        self._console = Console()
        self._total, self._cost, self._workers = total, cost, workers
        self._done, self._guessed, self._measured = 0, 0.0, 0.0
        self._running: dict[str, tuple[Run, float, float]] = {}  # since when, part done
        self._begin = self._spoken = time.monotonic()
        self._bar = Bar(
            SpinnerColumn(),
            MofNCompleteColumn(),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[left]}"),
            TextColumn("{task.fields[now]}", style="dim", markup=False),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("runs", total=total, left="", now="starting workers")
        again = f", {stored} already stored" if stored else ""
        self._console.print(
            f"{total} runs to do{again}, {workers} worker{'s' if workers > 1 else ''}"
        )

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()
        if error is None:
            spent = duration(time.monotonic() - self._begin)
            self._console.print(f"{self._done} runs done in {spent}")

    def say(self, words: str) -> None:
        """Something that is worth a line of its own."""
        self._console.print(words, highlight=False, markup=False, soft_wrap=True)

    def working(self, name: str, run: Run, part: float) -> None:
        """A worker is at the run of that key, a part of which is done."""
        since = self._running[name][1] if part and name in self._running else time.monotonic()
        self._running[name] = run, since, part

    def finished(self, name: str, run: Run, seconds: float) -> None:
        """The run's result is stored."""
        self._running.pop(name, None)
        self._done += 1
        self._guessed += run.cost()
        self._measured += seconds

    def failed(self, name: str, run: Run, lost: list[Run]) -> None:
        """The run raised, and these cannot be done without it."""
        self._running.pop(name, None)
        self._total -= 1 + len(lost)
        self._cost -= sum(other.cost() for other in lost)
        self._console.print(
            f"[red]failed:[/red] {escape(run.label())} ({len(lost)} runs depend on it)"
        )

    def left(self) -> float:
        """Seconds until all is done, as far as one can tell.

        Guessed costs are scaled by what was measured: runs that ended, and those under way whose
        epochs tell how far they are; others count what they took so far, at least.
        """
        now = time.monotonic()
        guessed, measured, left = self._guessed, self._measured, 0.0
        scale = (measured + 1.0) / (guessed + 1.0)
        rest = self._cost - self._guessed
        for run, since, part in self._running.values():
            spent = now - since
            whole = spent / part if part else max(spent, run.cost() * scale)
            guessed, measured = guessed + run.cost(), measured + whole
            left, rest = left + whole - spent, rest - run.cost()
        scale = (measured + 1.0) / (guessed + 1.0)
        return (left + max(rest, 0.0) * scale) / self._workers

    def tick(self) -> None:
        """Redraw; where there is no terminal, say a line now and then."""
        left = f"{duration(self.left())} left"
        now = " | ".join(run.label() for run, *_ in self._running.values())
        self._bar.update(self._task, completed=self._done, total=self._total, left=left, now=now)
        if not self._console.is_terminal and time.monotonic() - self._spoken > self.quiet_for:
            self._spoken = time.monotonic()
            self.say(f"{self._done}/{self._total} runs, {left}, now: {now}")


def duration(seconds: float) -> str:
    """A time as a person would say it: 42 s, 3 min 05 s, 1 h 20 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"

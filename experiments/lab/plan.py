"""What is still to be done, in an order in which each run's needs come first."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable

from experiments.lab.run import Run, key


class Plan:
    """Runs and all they need, less what is stored; the longest of those that are free is next."""

    def __init__(self, runs: Iterable[Run], has: Callable[[str], bool]) -> None:
        self.waiting: dict[str, Run] = {}
        self.kept: list[Run] = []
        self._missing: dict[str, set[str]] = {}  # run -> needs that are not stored yet
        self._wanted_by: dict[str, list[str]] = {}
        self._free: list[tuple[float, int, str]] = []  # -cost, order of coming, name
        self._came = itertools.count()
        seen: set[str] = set()

        def visit(run: Run, name: str) -> None:
            seen.add(name)
            if has(name):
                self.kept.append(run)
                return
            needs = {key(need): need for need in run.needs()}
            for other, need in needs.items():
                if other not in seen:
                    visit(need, other)
            self.waiting[name] = run
            self._missing[name] = needs.keys() & self.waiting.keys()
            for other in self._missing[name]:
                self._wanted_by.setdefault(other, []).append(name)
            if not self._missing[name]:
                self.put_back(name, run)

        for run in runs:
            name = key(run)
            if name not in seen:
                visit(run, name)

    def next(self) -> tuple[str, Run] | None:
        """The longest run among those that need nothing any more."""
        while self._free:
            _, _, name = heapq.heappop(self._free)
            if name in self.waiting:
                return name, self.waiting.pop(name)
        return None

    def put_back(self, name: str, run: Run) -> None:
        """A run that needs nothing any more."""
        self.waiting[name] = run
        heapq.heappush(self._free, (-run.cost(), next(self._came), name))

    def done(self, name: str) -> None:
        """Free the runs that waited for this one."""
        for other in self._wanted_by.pop(name, []):
            missing = self._missing[other]
            missing.discard(name)
            if not missing and other in self.waiting:
                self.put_back(other, self.waiting[other])

    def require(self, name: str, run: Run, need: Run) -> None:
        """A run must wait after all: the stored result of one of its needs is damaged."""
        other = key(need)
        self.waiting[name] = run
        self._missing[name] = {other}
        self._wanted_by.setdefault(other, []).append(name)
        if other not in self.waiting:
            self.put_back(other, need)

    def drop(self, name: str) -> list[Run]:
        """Take out the runs that can no longer be done because this one failed."""
        lost = []
        for other in self._wanted_by.pop(name, []):
            if other in self.waiting:
                lost += [self.waiting.pop(other), *self.drop(other)]
        return lost

    @property
    def stored(self) -> int:
        """How many need not be done again."""
        return len(self.kept)

    def cost(self) -> float:
        """Guessed seconds of all that waits."""
        return sum(run.cost() for run in self.waiting.values())

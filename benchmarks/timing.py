"""How the benchmarks measure: the minimum of repeats, after one call to warm up."""

from __future__ import annotations

import time
from collections.abc import Callable


def interleaved(
    calls: dict[str, Callable[[], object]],
    repeats: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Minimum seconds of every call, taken in turn so that a noisy moment hits all alike.

    On a machine that others use, `clock=time.process_time` counts this process alone.
    """
    best = dict.fromkeys(calls, float("inf"))
    for f in calls.values():
        f()
    for _ in range(repeats):
        for name, f in calls.items():
            start = clock()
            f()
            best[name] = min(best[name], clock() - start)
    return best


def fastest(f: Callable[[], object], repeats: int) -> float:
    """Minimum seconds of one call."""
    return interleaved({"": f}, repeats)[""]

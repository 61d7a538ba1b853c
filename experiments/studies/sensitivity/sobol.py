"""Sobol's indices of functions of several numbers, by SALib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Indices(NamedTuple):
    """The share of the variance that an input explains, with half its 95 % interval."""

    first: float  # alone
    first_half: float
    total: float  # with all its interactions
    total_half: float


def _problem(dimensions: int) -> dict[str, Any]:
    names = [f"x{k}" for k in range(dimensions)]
    return {"num_vars": dimensions, "names": names, "bounds": [[0.0, 1.0]] * dimensions}


def sampled(dimensions: int, samples: int, seed: int = 0) -> NDArray[np.float64]:
    """Saltelli's points of the unit cube, `samples` (dimensions + 2) of them.

    Raises:
        ValueError: no power of two, or SALib is not there.
    """
    if samples < 2 or samples & (samples - 1):
        raise ValueError(f"--samples must be a power of two >= 2, got {samples}")
    try:
        from SALib.sample import sobol
    except ImportError:
        raise ValueError("sensitivity needs the package SALib: pip install SALib") from None
    found: NDArray[np.float64] = sobol.sample(
        _problem(dimensions), samples, calc_second_order=False, seed=seed
    )
    return found


def indices(dimensions: int, values: Sequence[float]) -> list[Indices]:
    """Of each input, from the values at `sampled` points in their order."""
    from SALib.analyze import sobol

    y = np.asarray(values, dtype=float)
    if np.ptp(y) == 0:  # nothing varies: no share of it can be told
        return [Indices(0.0, 0.0, 0.0, 0.0)] * dimensions
    found = sobol.analyze(_problem(dimensions), y, calc_second_order=False, seed=0)
    columns = (found[name] for name in ("S1", "S1_conf", "ST", "ST_conf"))
    return [Indices(*map(float, row)) for row in zip(*columns, strict=True)]

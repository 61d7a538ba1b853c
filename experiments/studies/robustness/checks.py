"""What would prove the emulator wrong: claims about the main job, decided by its stored runs.

A claim holds or fails where the whole 95 % interval says so, and is not decided otherwise.
"""

from __future__ import annotations

import math

from experiments.lab.report import Check
from experiments.lab.statistics import decided, estimate, paired, signed
from experiments.studies.robustness.plan import AT_YEAR
from experiments.studies.robustness.results import Results, column

LEAST_DIGITAL = 96.5  # [%]


def checks(results: Results) -> list[Check]:
    """Every claim, about the first network of the plan (the MLP unless it was left out)."""
    network = results.plan.networks[0]
    digital = results.digital(network)
    mean = estimate(digital).mean
    on_digits = type(results.plan.data).__name__ == "Digits" and network == "MLP"
    begin, end = year_apart(results, network)
    year = paired(begin, end)
    return [
        Check(
            f"The digital {network} learns the task",
            f"at least {LEAST_DIGITAL:g} %",
            f"{mean:.2f} %",
            decided(estimate(digital), LEAST_DIGITAL) if on_digits else None,
        ),
        _gap(
            results,
            "In situ on ideal cells with 8-bit converters and stochastic pulses is near digital",
            "within 1 point",
            (digital, ("ideal",)),
            (-1.0, math.inf),
        ),
        _gap(
            results,
            "Bent, asymmetric response curves (label ±5) do far worse than straight ones (±0.5)",
            "at least 10 points below",
            (("neurosim-0.5",), ("neurosim-5",)),
            (-math.inf, -10.0),
        ),
        _gap(
            results,
            "An up/down imbalance of 0.2 costs a few points under a fixed reference",
            "at most 5 points below balanced steps",
            (("constant-reference",), ("imbalance-reference",)),
            (-5.0, math.inf),
        ),
        _gap(
            results,
            "of which the converters' part is small",
            "at most 1.5 points below the same cells read without converters",
            (("imbalance-float",), ("imbalance-reference",)),
            (-1.5, math.inf),
        ),
        _gap(
            results,
            "unless a converter cuts the weights that the imbalance moves to one side",
            "at least 20 points below, with an ADC as wide as 64 weights of random sign",
            (("imbalance-reference",), ("imbalance-narrow",)),
            (-math.inf, -20.0),
        ),
        _gap(
            results,
            "Push-pull pairs cancel most of the same imbalance",
            "within 2 points of balanced steps",
            (("constant",), ("imbalance",)),
            (-2.0, 2.0),
        ),
        Check(
            "A year of drift costs accuracy on phase-change cells",
            "paired difference below 0",
            f"{signed(year, 2)} points, {year.n} chips",
            decided(year, high=0.0),
        ),
    ]


def year_apart(results: Results, network: str) -> tuple[list[float], list[float]]:
    """Accuracy of each programmed chip after a second and after a year."""
    rows = results.programmed(network, "digital")
    return column(rows, 0), column(rows, AT_YEAR)


def _gap(
    results: Results,
    claim: str,
    wanted: str,
    sides: tuple[list[float] | tuple[str], list[float] | tuple[str]],
    bounds: tuple[float, float],
) -> Check:
    """A claim about the difference of two families; open where one of them was not trained."""
    network = results.plan.networks[0]
    found: list[list[float]] = []
    for side in sides:
        if isinstance(side, list):
            found.append(side)
        elif side[0] in results.plan.families:
            found.append(results.in_situ(network, side[0]))
        else:
            return Check(claim, wanted, "not part of this budget", None)
    gap = paired(*found)
    return Check(claim, wanted, f"{signed(gap, 2)} points", decided(gap, *bounds))

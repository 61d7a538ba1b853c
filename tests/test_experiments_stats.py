"""Means and intervals against SciPy and against their own coverage."""

import math

import numpy as np
import pytest
from scipy import stats

from experiments.lab.statistics import Estimate, estimate, paired, percent, signed


def test_estimate_equals_scipy() -> None:
    values = [97.1, 96.4, 98.2, 97.7, 96.9]
    found = estimate(values)
    low, high = stats.t.interval(0.95, 4, loc=np.mean(values), scale=stats.sem(values))
    assert (found.mean, found.sd) == pytest.approx((np.mean(values), np.std(values, ddof=1)))
    assert (found.low, found.high) == pytest.approx((low, high))


def test_paired_equals_the_t_test_of_related_samples() -> None:
    rng = np.random.default_rng(0)
    before, after = rng.normal(96, 1, 12), rng.normal(95.5, 1, 12)
    found = paired(before.tolist(), after.tolist())
    reference = stats.ttest_rel(after, before).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high))
    assert paired([1.0, 2.0, 3.0], [0.0, 1.1, 1.9]).excludes_zero


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    trials = 2000
    hits = sum(
        found.low < 3.0 < found.high
        for found in (estimate(rng.normal(3.0, 2.0, 5).tolist()) for _ in range(trials))
    )
    assert abs(hits / trials - 0.95) < 4 * math.sqrt(0.95 * 0.05 / trials)


def test_one_value_has_no_interval() -> None:
    single = estimate([5.0])
    assert single.mean == 5.0 and math.isnan(single.low) and not single.excludes_zero
    assert (percent(single), signed(single)) == ("5.0", "+5.0")
    with pytest.raises(ValueError, match="at least one"):
        estimate([])
    with pytest.raises(ValueError, match="equal lengths"):
        paired([1.0], [1.0, 2.0])


def test_how_estimates_are_written() -> None:
    value = Estimate(-2.44, -2.9, -1.96, 0.5, 5)
    assert percent(value) == "-2.4 ± 0.5"
    assert signed(value, 1) == "−2.4 [−2.9, −2.0]"

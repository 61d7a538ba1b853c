"""Rules of two arrays, weight by weight as aihwkit 1.2: known answers without a random number.

|x| = |δ| = 1, trains of two slots at 2.2 coincidences wanted: every slot fires.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from _rules import F64, FAST, SLOW, given, layer, run
from torch import Tensor

import crossbar as xb

TRAIN = xb.Sequential(xb.ExactBits(2))
CHOPPED = {"auto_granularity": 37.3, "fast_lr": 0.77, "scheme": TRAIN, "fast": FAST}
RULES = {
    "TTv2": xb.TikiTaka(fast_lr=0.0773, auto_granularity=37.3, scheme=TRAIN, fast=FAST),
    "c-TTv2": xb.ChoppedTikiTaka(regular=True, **CHOPPED),
    "AGAD": xb.AGAD(**CHOPPED),
}
C = {
    ("TTv2", 200): [[0.07763, -0.03960, 0], [0, -0.09608, -0.03960]],
    ("TTv2", 600): [[0.21528, -0.09608, -0.03960], [-0.02000, -0.27620, -0.07763]],
    ("c-TTv2", 200): [[0.03960, -0.02000, 0.02000], [0, -0.03960, -0.02000]],
    ("c-TTv2", 600): [[0.14924, -0.03960, 0.01961], [0, -0.14924, -0.02000]],
    ("AGAD", 200): [[0.11416, -0.03960, 0.03960], [0.02000, -0.13187, -0.03960]],
    ("AGAD", 600): [[0.33239, -0.07763, 0.01846], [0.03960, -0.34574, -0.05881]],
}
A = {
    "TTv2": [[0.5002, -0.0662, 0.1508], [0.1006, -0.4541, -0.2216]],
    "c-TTv2": [[-0.2478, 0.0517, -0.3312], [0.0607, 0.5284, 0.0206]],
    "AGAD": [[-0.2478, 0.0517, -0.3312], [0.0607, 0.5284, 0.0206]],
}
HALF = 5.1e-6  # of the last digit printed


def close(got, want, atol=HALF):
    np.testing.assert_allclose(got.numpy(), want, rtol=0, atol=atol)


@pytest.mark.parametrize("name", RULES)
def test_the_filtered_rules(name):
    model, told = run(RULES[name], 600)
    a, c = model.analog["weight"].matrices
    assert float(a.granularity) == pytest.approx(0.0503)
    assert float(c.granularity) == pytest.approx(0.02)
    for n in (200, 600):
        close(told[n], C[name, n])
    close(a.weight.mT, A[name], 5.1e-5)
    assert int(model.analog["weight"].rule_clock) == 600


V1 = xb.TikiTakaV1(
    fast_lr=0.773,
    transfer_lr=1e6,
    scheme=TRAIN,
    transfer=xb.ExactBits(1),
    fast=FAST,
)


@pytest.mark.parametrize(
    "batch,want",
    [
        (1, [[0.95287, -0.71236, 0.29988], [-0.18204, -0.98241, -0.55075]]),
        (5, [[0.55430, -0.35852, -0.06527], [-0.01929, -0.55430, -0.31702]]),
    ],
)
def test_the_first_version(batch, want):
    model, _ = run(V1, 600, batch)
    close(model.analog["weight"].matrix.weight.mT, want)


def test_the_first_version_shows_both_arrays():
    model, _ = run(replace(V1, gamma=0.5), 600)
    want = [[1.20299, -0.74548, 0.37526], [-0.13174, -1.20944, -0.66153]]
    close(model.weight.detach().as_subclass(Tensor), want)
    x = torch.randn(4, 3, dtype=F64)
    torch.testing.assert_close(model(x), x @ torch.tensor(want, dtype=F64).T, atol=4e-5, rtol=0)


@pytest.mark.parametrize("batch,want", [(1, (0.06904, 0.08643)), (5, (0.03050, 0.35348))])
def test_mixed_precision(batch, want):
    """x = (1, −1, 1) always: equal counts along an output leave no chance."""
    model = layer(xb.MixedPrecision(), SLOW)
    optimiser = xb.InSituSGD(model, 0.1)
    for start in range(0, 300, batch):
        t = torch.arange(start, start + batch, dtype=F64)
        d = torch.stack([(1.3 * t).sin(), 0.9 * (0.7 * t).cos() - 0.1], -1)
        given(model, optimiser, torch.tensor([[1.0, -1.0, 1.0]], dtype=F64).expand(batch, 3), d)
    w = model.weight.detach().as_subclass(Tensor)
    close(w, torch.tensor(want, dtype=F64).unsqueeze(1) * torch.tensor([1.0, -1.0, 1.0]))


# ---- the wrong variants, each told apart by the answers above -------------------------------


@dataclass(frozen=True)
class WritesAtOnce(xb.AGAD):
    def _opened(self, sweep, v):
        return 1.0


@dataclass(frozen=True)
class HoldsOneSweepLess(xb.AGAD):
    def _opened(self, sweep, v):
        return super()._opened(sweep + 1, v)


@dataclass(frozen=True)
class ForgetsMeanAtFlip(xb.AGAD):
    def _signal(self, v, leaf, line, flip):
        e = super()._signal(v, leaf, line, flip)
        leaf.mu[line[flip]] = 0
        return e


@dataclass(frozen=True)
class MeanBeforeReference(xb.AGAD):
    def _signal(self, v, leaf, line, flip):
        begun, mu = leaf.flipped[line].unsqueeze(-1), leaf.mu[line]
        mu = mu + 0.5 * (v - mu)
        leaf.mu[line], leaf.flipped[line] = mu, flip
        leaf.rho[line] = torch.where(begun, mu, leaf.rho[line])
        return v - leaf.rho[line]


@dataclass(frozen=True)
class FilterRests(xb.AGAD):
    """H does not run while C waits."""

    def _signal(self, v, leaf, line, flip):
        e = super()._signal(v, leaf, line, flip)
        sweep = (leaf.clock - 1) // len(leaf.chopper)
        return e * float(sweep > self.period)


@dataclass(frozen=True)
class FlipsEarly(xb.AGAD):
    def _flips(self, line, sweep, a, count):
        return super()._flips(line, sweep + 1, a, count)


@dataclass(frozen=True)
class OwnStepOfA(xb.AGAD):
    """g_A in A's train, not the mean of both steps."""

    def _block(self, job, x, d, rate):
        a, c = job.matrices
        super()._block(job, x, d, rate * float((a.granularity + c.granularity) / 2 / a.granularity))


WRONG = [
    WritesAtOnce(**CHOPPED),
    ForgetsMeanAtFlip(**CHOPPED),
    MeanBeforeReference(**CHOPPED),
    xb.AGAD(forget=False, **CHOPPED),
    FlipsEarly(**CHOPPED),
    FilterRests(**CHOPPED),
]


@pytest.mark.parametrize("rule", WRONG, ids=lambda r: type(r).__name__)
def test_wrong_variants_of_agad_are_told_apart(rule):
    _, told = run(rule, 200)
    assert np.abs(told[200].numpy() - C["AGAD", 200]).max() > 0.01

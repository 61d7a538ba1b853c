"""Rules of two arrays, weight by weight as aihwkit 1.2: known answers without a random number.

|x| = |δ| = 1, trains of two slots at 2.2 coincidences wanted: every slot fires.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from _rules import F64, FAST, SLOW, given, layer, run, signs
from torch import Tensor

import crossbar as xb
from crossbar.operations import Vectors

TRAIN = xb.Sequential(xb.ExactBits(2))
CHOPPED = {"auto_granularity": 37.3, "fast_lr": 0.77, "scheme": TRAIN, "fast": FAST}
RULES = {
    "TTv2": xb.TikiTaka(fast_lr=0.0773, auto_granularity=37.3, scheme=TRAIN, fast=FAST),
    "c-TTv2": xb.ChoppedTikiTaka(regular=True, **CHOPPED),
    "AGAD": xb.AGAD(**CHOPPED),
}
C = {
    ("TTv2", 200): [[0.077631839, -0.0396, 0], [0, -0.096079201, -0.0396]],
    ("TTv2", 600): [[0.215283260, -0.096079201, -0.0396], [-0.02, -0.276202261, -0.077631839]],
    ("c-TTv2", 200): [[0.0396, -0.02, 0.02], [0, -0.0396, -0.02]],
    ("c-TTv2", 600): [[0.149236977, -0.0396, 0.019607998], [0, -0.149236977, -0.02]],
    ("AGAD", 200): [[0.114157617, -0.0396, 0.0396], [0.02, -0.131874472, -0.0396]],
    ("AGAD", 600): [[0.332391977, -0.077631839, 0.018463204], [0.0396, -0.345744133, -0.058807999]],
}
CHOPPED_A = [[-0.247788638, 0.051659636, -0.331189632], [0.060733043, 0.528378129, 0.020632148]]
A = {
    "TTv2": [[0.500244021, -0.066239521, 0.150768369], [0.100614764, -0.454062223, -0.221556813]],
    "c-TTv2": CHOPPED_A,
    "AGAD": CHOPPED_A,
}


def close(got, want):
    """aihwkit keeps float32."""
    np.testing.assert_allclose(got.numpy(), want, rtol=0, atol=1e-6)


def agrees(name, batch, n):
    model, told = run(RULES[name], n, batch)
    a, c = model.analog["weight"].matrices
    assert float(a.granularity) == pytest.approx(0.0503)
    assert float(c.granularity) == pytest.approx(0.02)
    for k in told.keys() & {200, 600}:
        close(told[k], C[name, k])
    if n == 600:
        close(a.weight.mT, A[name])
    assert int(model.analog["weight"].rule_clock) == n


@pytest.mark.parametrize("name", RULES)
def test_the_filtered_rules(name):
    """δ does not depend on the weight, so that a step of 40 vectors is 40 steps: no loop."""
    agrees(name, 40, 200)


@pytest.mark.slow
@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("batch", [1, 40])
def test_the_filtered_rules_for_longer(name, batch):
    agrees(name, batch, 600)


V1 = xb.TikiTakaV1(
    fast_lr=0.773,
    transfer_lr=1e6,
    scheme=TRAIN,
    transfer=xb.ExactBits(1),
    fast=FAST,
)


SINGLY = [[0.952869236, -0.712356031, 0.299877167], [-0.182043329, -0.982412040, -0.550749242]]


@pytest.mark.parametrize(
    "batch,want",
    [
        pytest.param(1, SINGLY, marks=pytest.mark.slow),
        (
            5,
            [[0.554299474, -0.358519047, -0.065269977], [-0.019293390, -0.554299474, -0.317015558]],
        ),
    ],
)
def test_the_first_version(batch, want):
    rule = replace(V1, batches=batch > 1)  # one vector a step, in steps of many
    model, _ = run(rule, 600, batch if batch > 1 else 40)
    close(model.analog["weight"].matrix.weight.mT, want)


@pytest.mark.slow
def test_the_first_version_vector_by_vector():
    model, _ = run(V1, 600)
    close(model.analog["weight"].matrix.weight.mT, SINGLY)


@pytest.mark.slow
def test_the_first_version_shows_both_arrays():
    model, _ = run(replace(V1, gamma=0.5, batches=False), 600, 40)
    want = [[1.20299, -0.74548, 0.37526], [-0.13174, -1.20944, -0.66153]]
    np.testing.assert_allclose(model.weight.detach().numpy(), want, atol=5.1e-6)
    x = torch.randn(4, 3, dtype=F64)
    torch.testing.assert_close(model(x), x @ torch.tensor(want, dtype=F64).T, atol=4e-5, rtol=0)


@pytest.mark.parametrize(
    "batch,want", [(1, (0.069036178, 0.086426221)), (5, (0.030497357, 0.353474587))]
)
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


def tracked(n, rate, period, b):
    """C after n vectors of the RIDER type in NumPy, of FAST and SLOW: A takes two pulses a vector.

    H_j += c_j (v − ρ_j) lr/b, one pulse and H = 0 where |H| >= 1, ρ_j += rate (v − ρ_j).
    """
    g, a = 0.0503, np.full((2, 3), 0.1)
    c, h, rho, chop = np.zeros((2, 3)), np.zeros((2, 3)), np.zeros((2, 3)), np.ones(3)
    for t in range(n):
        x, d = (np.array(v) for v in signs(t))
        up = np.outer(d, x * chop) < 0
        for _ in range(2):
            a = np.where(up, a + g * (1 - a), a - g * (1 + a / 0.7))
        j, sweep = t % 3, t // 3
        v = a[:, j] - 0.1
        h[:, j] += chop[j] * (v - rho[:, j]) * 0.1 / b
        rho[:, j] += rate * (v - rho[:, j])
        fired = np.where(abs(h[:, j]) >= 1, np.sign(h[:, j]), 0)
        c[:, j] += 0.02 * fired * (1 - fired * c[:, j])
        h[:, j] = np.where(fired != 0, 0, h[:, j])
        chop[j] *= -1 if sweep % period == period - 1 else 1
    return c


def test_tracked_references():
    """The equations of the rule, one vector at a time; without tracking it is another answer."""
    rule = xb.TrackedTikiTaka(regular=True, rate=0.1, **(CHOPPED | {"auto_granularity": 2.9}))
    model, _ = run(rule, 60, 60)
    c = model.analog["weight"].matrix.weight.mT.numpy()
    want = tracked(60, 0.1, 10, 0.0503 * 2.9 / 3)
    np.testing.assert_allclose(c, want, rtol=0, atol=1e-12)
    assert np.abs(want).min() > 0.01
    assert np.abs(want - tracked(60, 0.0, 10, 0.0503 * 2.9 / 3)).max() > 0.01


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
    def _flips(self, turns, seed):
        return super()._flips(turns._replace(sweep=turns.sweep + 1), seed)


@dataclass(frozen=True)
class OwnStepOfA(xb.AGAD):
    """g_A in A's train, not the mean of both steps."""

    def _block(self, job, x, d, rate):
        a, c = job.matrices
        super()._block(job, x, d, rate * float((a.granularity + c.granularity) / 2 / a.granularity))


# With b 13 times finer C is busy: aihwkit 1.2 after so many vectors, from the first write on.
BUSY = {
    33: [[0, 0, 0], [0, 0, 0]],
    36: [[0.02, -0.02, 0.02], [0, -0.02, 0]],
    50: [[0.114157617, -0.058807999, 0.0396], [0.02, -0.114157617, -0.02]],
    100: [[0.332391977, -0.199268639, 0.199268639], [0.077631839, -0.318767339, -0.149236977]],
}
QUICK = CHOPPED | {"auto_granularity": 2.9}


def busy(rule):
    """Largest difference from aihwkit."""
    model, start, off = layer(rule), 0, 0.0
    optimiser = xb.InSituSGD(model, 0.1)
    for n, want in BUSY.items():
        xs, ds = zip(*(signs(t) for t in range(start, n)), strict=True)
        given(model, optimiser, torch.tensor(xs, dtype=F64), torch.tensor(ds, dtype=F64))
        c = model.analog["weight"].matrix.weight.mT.numpy()
        start, off = n, max(off, np.abs(c - np.array(want)).max())
    return off


def test_agad_writes_after_its_hold():
    assert busy(xb.AGAD(**QUICK)) < 1e-6


WRONG = [
    WritesAtOnce,
    HoldsOneSweepLess,
    ForgetsMeanAtFlip,
    MeanBeforeReference,
    FilterRests,
    FlipsEarly,
    OwnStepOfA,
]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda kind: kind.__name__)
def test_wrong_variants_are_told_apart(wrong):
    assert busy(wrong(**QUICK)) > 0.01


def test_a_surplus_that_is_kept_is_told_apart():
    """H − n instead of forgetting."""
    assert busy(xb.AGAD(forget=False, **QUICK)) > 0.01


# ---- what the answers above cannot see -----------------------------------------------------------


def test_errors_alone_are_clipped():
    """Unequal |x|, 20 coincidences wanted of 5 slots: seen of aihwkit 1.2 (4000 vectors)."""
    x, d = torch.tensor([[1.0, 0.5, 0.1]]).double(), torch.tensor([[1.0, 0.5, 0.1]]).double()
    n = 4000
    pulses = xb.ExactBits(5).pulses(
        Vectors(), x.expand(n, 3), d.expand(n, 3), 20.0, generator=torch.Generator().manual_seed(0)
    )
    want = torch.tensor([[5.0, 2.5, 0.5], [5.0, 2.5, 0.5], [2.0, 1.0, 0.2]]).mT
    error = (want * (1 - want / 5) / n).sqrt()
    assert bool(((pulses.down / n - want).abs() <= 4.5 * error + 1e-9).all())

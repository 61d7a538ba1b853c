"""Mappings that make up for bad cells: turns at the remainder, spares, copies."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import crossbar as xb
from devices import Device, GaussianWrite, SoftBounds, StuckAt

F64 = torch.float64
STUCK = StuckAt(p_off=0.05, p_on=0.05)
E, N = np.random.default_rng(0).normal(size=(2, 10**6))


def held(mapping, w, device, seed=0):
    return xb.matrix(w, xb.Chip(device, mapping), seed=seed).weight.mT


def test_a_free_partner_makes_up_for_a_stuck_cell():
    """Against the best that any conductance of the partner gives, cell by cell, in NumPy."""
    torch.manual_seed(0)
    w = torch.rand(30, 40, dtype=F64) * 2 - 1
    device = Device(0.0, 1e-4, faults=StuckAt(p_off=0.1, p_on=0.1))
    plain = xb.matrix(w, xb.Chip(device, xb.Differential(w_max=1.0)), seed=3)
    at = plain.written.state.faults.at.numpy() / 1e-4  # (2, rows, cols), NaN where healthy
    want = w.mT.numpy()
    got = held(xb.Differential(w_max=1.0, corrections=2), w, device, 3).mT.numpy()
    plus, minus = at
    best = np.clip(want, -1, 1)
    best = np.where(np.isnan(minus), best, np.clip(want, 0 - minus, 1 - minus))
    best = np.where(np.isnan(plus), best, np.clip(want, plus - 1, plus - 0))
    both = ~np.isnan(plus) & ~np.isnan(minus)
    best = np.where(both, plus - minus, best)
    np.testing.assert_allclose(got, best, atol=1e-12)


@pytest.mark.parametrize(
    ("mapping", "factor"),
    [
        # σ of one cell of the window: a pair errs by √2 σ, corrected by the one cell written last
        (xb.Differential(w_max=1.0), 2**0.5),
        (xb.Differential(w_max=1.0, corrections=1), 1.0),
        (xb.Devices(count=3, w_max=1.0), 2**0.5 / 3**0.5),
        (xb.Devices(count=3, w_max=1.0, corrections=1), 1 / 3),
        # the pair of a digit has its other cell at the bottom, from where it can only rise
        (
            xb.Slices((3, 3), w_max=1.0, corrections=1),
            float((E - (E.clip(0) + N).clip(0)).std()) / 9,
        ),
        (xb.SingleCell(w_max=1.0, corrections=1), 2.0),
    ],
    ids=str,
)
def test_the_error_is_that_of_the_cell_written_last(mapping, factor):
    """Closed form; 4 standard errors of 20,000 weights in mid-window, where nothing clips."""
    sigma, device = 0.01, Device(0.0, 1e-4, update=SoftBounds(1e-7), write=GaussianWrite(0.01))
    w = torch.full((100, 200), 0.4001, dtype=F64)
    if isinstance(mapping, xb.Slices):
        device = Device(0.0, 1e-4, write=GaussianWrite(0.01))
        w = torch.full((100, 200), 27 / 63, dtype=F64)  # digits 3 and 3 of 0 … 7
    error = held(mapping, w, device) - w
    assert float(error.std()) == pytest.approx(sigma * factor, rel=4 / (2 * w.numel()) ** 0.5)

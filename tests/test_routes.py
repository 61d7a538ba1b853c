"""Mappings and routes: how weights sit on pairs, and what asymmetry does to them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import crossbar as xb
from devices import ConstantStep, Device, PCMDrift, PCMWrite, SoftBounds
from tests._analog import cells_of, update, write

ROUTES = [xb.Reference(), xb.PushPull(), xb.OneSided()]


@settings(max_examples=30, deadline=None)
@given(
    route=st.sampled_from(ROUTES),
    rows=st.integers(1, 9),
    cols=st.integers(1, 9),
    seed=st.integers(0, 2**31),
    w_max=st.one_of(st.none(), st.floats(3.0, 50.0)),
)
def test_weights_survive_the_round_trip(route, rows, cols, seed, w_max):
    weight = torch.randn(cols, rows, generator=torch.Generator().manual_seed(seed)).clamp(-3, 3)
    digital = nn.Linear(rows, cols, bias=False)
    digital.weight = nn.Parameter(weight)
    chip = xb.Chip(
        Device(1e-6, 50e-6, update=SoftBounds(1e-7)), xb.Differential(route, w_max=w_max)
    )
    layer = xb.convert(digital, chip, mode=xb.InSitu(), seed=0)
    torch.testing.assert_close(layer.weight.detach(), weight, rtol=0, atol=1e-5 * (w_max or 12))
    g = cells_of(layer).g
    assert bool((g >= 1e-6).all() and (g <= 50e-6 * (1 + 1e-6)).all())


def test_where_each_route_puts_the_pair():
    digital = nn.Linear(1, 3, bias=False)
    digital.weight = nn.Parameter(torch.tensor([[0.5], [-1.0], [0.0]]))
    want = {
        xb.Reference: ([0.75, 0.0, 0.5], [0.5, 0.5, 0.5]),
        xb.PushPull: ([0.75, 0.0, 0.5], [0.25, 1.0, 0.5]),
        xb.OneSided: ([0.5, 0.0, 0.0], [0.0, 1.0, 0.0]),
    }
    for route, places in want.items():
        device = Device(0.0, 1e-6, update=SoftBounds(1e-9))
        chip = xb.Chip(device, xb.Differential(route(), w_max=1.0))
        g = cells_of(xb.convert(digital, chip, mode=xb.InSitu(), seed=0)).g[:, 0] / 1e-6
        torch.testing.assert_close(g, torch.tensor(places), atol=1e-6, rtol=0)
    write_only = xb.Chip(Device(0.0, 1e-6), xb.Differential(xb.PushPull(), w_max=1.0))
    g = cells_of(xb.convert(digital, write_only, mode=xb.Programmed(), seed=0)).g[:, 0] / 1e-6
    torch.testing.assert_close(g, torch.tensor(want[xb.OneSided]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("route", [xb.Reference(), xb.PushPull()], ids=lambda r: type(r).__name__)
def test_global_imbalance(route):
    """Balanced errors of both signs: push-pull cancels the imbalance, a reference does not."""
    device = Device(0.0, 1e-6, update=ConstantStep(1e-9, up_down=0.2))
    chip = xb.Chip(device, xb.Differential(route, w_max=1.0))
    mode = xb.InSitu(xb.Expected())
    layer = xb.AnalogLinear(1, 200, bias=False, chip=chip, mode=mode, seed=0)
    write(layer, torch.zeros(1, 200))
    x = torch.ones(64, 1)
    d = torch.ones(64, 200)
    d[::2] = -1
    for _ in range(20):
        update(layer, x, d, 1e-3)
    drift = float(layer.weight.detach().mean())
    # 20 · 64 · 1e-3 of gross change; an imbalance u moves the weight by u/2 of it
    if isinstance(route, xb.Reference):
        assert drift == pytest.approx(1.28 * 0.1, rel=0.02)
    else:
        assert abs(drift) < 1e-3


@pytest.mark.parametrize("route", ROUTES, ids=lambda r: type(r).__name__)
@pytest.mark.parametrize(
    "scheme", [xb.Expected(), xb.Aggregated(), xb.ExactBits()], ids=lambda s: type(s).__name__
)
def test_one_update_moves_the_weight_by_minus_lr_times_gradient(route, scheme):
    torch.manual_seed(0)
    device = Device(0.0, 1e-6, update=ConstantStep(1e-10))
    chip = xb.Chip(device, xb.Differential(route, w_max=2.0))
    layer = xb.AnalogLinear(40, 30, bias=False, chip=chip, mode=xb.InSitu(scheme), seed=0)
    before = layer.weight.detach().clone()
    x, d = torch.randn(64, 40), torch.randn(64, 30)
    for _ in range(20):
        update(layer, x, d, 3e-4)
    want = -20 * 3e-4 * d.mT @ x
    got = layer.weight.detach() - before
    slope = float((want * got).sum() / want.square().sum())
    assert slope == pytest.approx(1.0, abs=0.02)


def test_pair_shares_the_fluctuation_of_its_counts():
    """One coincidence moves both devices: without cycle noise the pair stays antisymmetric."""
    device = Device(0.0, 1e-6, update=ConstantStep(1e-9))
    chip = xb.Chip(device, xb.Differential(xb.PushPull(), w_max=1.0))
    layer = xb.AnalogLinear(20, 20, bias=False, chip=chip, mode=xb.InSitu(), seed=0)
    update(layer, torch.randn(8, 20), torch.randn(8, 20), 0.05)
    total = cells_of(layer).g.sum(0)
    torch.testing.assert_close(total, torch.full_like(total, 1e-6), rtol=1e-5, atol=0)


def test_one_sided_pairs_only_rise_until_refreshed():
    device = Device(0.0, 1e-6, update=ConstantStep(1e-8))
    for every, risen in ((None, True), (1, False)):
        route = xb.OneSided(refresh_every=every)
        chip = xb.Chip(device, xb.Differential(route, w_max=1.0))
        layer = xb.AnalogLinear(1, 50, bias=False, chip=chip, mode=xb.InSitu(xb.Expected()), seed=0)
        write(layer, torch.zeros(1, 50))
        x, d = torch.ones(2, 1), torch.ones(2, 50)
        d[0] = -1
        for _ in range(90):
            update(layer, x, d, 0.01)
        assert float(layer.weight.detach().abs().max()) < 1e-4
        # 90 steps of 0.01 up on both devices; refreshed pairs start again from the bottom
        assert bool((cells_of(layer).g.amin(0) > 0.75e-6).all()) is risen


def test_both_devices_of_a_pair_drift():
    """aihwkit re-derives the pair from the signed weight, so its off-device never drifts."""
    digital = nn.Linear(8, 8, bias=False)
    chip = xb.Chip(Device(0.0, 25e-6, write=PCMWrite(), retention=PCMDrift()))
    layer = xb.convert(digital, chip, mode=xb.Programmed(), seed=0)
    before = cells_of(layer).g.clone()
    xb.advance(layer, 1e6)
    written = before > 0
    assert bool((cells_of(layer).g[written] < before[written]).all())
    off = before.amin(0) > 0  # the smaller device of the pair, off target by its write error
    assert bool((cells_of(layer).g.amin(0)[off] < before.amin(0)[off]).all()) and bool(off.any())

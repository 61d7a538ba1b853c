"""Measured conductance maps onto a layer and back."""

from __future__ import annotations

import pytest
import torch

import crossbar as xb
from devices import Device, SoftBounds
from tests._analog import cells_of, per_siemens

CELL = Device(g_min=1e-6, g_max=50e-6, update=SoftBounds(dg_min=0.1e-6))


def layer(**settings: object) -> xb.AnalogLinear:
    return xb.AnalogLinear(5, 3, bias=False, chip=xb.Chip(device=CELL), seed=1, **settings)


def test_maps_become_the_weights_and_come_back(tmp_path) -> None:
    torch.manual_seed(0)
    on = layer(mode=xb.InSitu())
    maps = 1e-6 + 49e-6 * torch.rand(2, 5, 3, dtype=torch.float64)
    maps[0, 2, 1] = 55e-6  # measured outside the nominal window: kept
    xb.load_maps(on, maps[0], maps[1])
    scale = per_siemens(on)
    expected = (maps[0] - maps[1]).mT * scale
    assert torch.allclose(on.weight.double(), expected, rtol=1e-5, atol=1e-7)
    x = torch.rand(4, 5)
    assert torch.allclose(on(x).double(), x.double() @ expected.mT, rtol=1e-4, atol=1e-5)
    paths = tmp_path / "plus.csv", tmp_path / "minus.csv"
    xb.save_maps(on, *paths)
    other = layer(mode=xb.InSitu())
    xb.load_maps(other, *paths)
    assert torch.allclose(cells_of(other).g, cells_of(on).g, rtol=1e-6, atol=0)


def test_what_is_no_map_is_refused() -> None:
    on, good = layer(mode=xb.InSitu()), torch.full((5, 3), 1e-6)
    with pytest.raises(ValueError, match=r"positive must be of shape \(5, 3\)"):
        xb.load_maps(on, good.mT, good)
    with pytest.raises(ValueError, match="negative must hold conductances"):
        xb.load_maps(on, good, good * torch.nan)
    with pytest.raises(ValueError, match="until program"):
        xb.load_maps(layer(), good, good)

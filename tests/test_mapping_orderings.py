"""What published comparisons of ranges and mappings found, on digits: 64-54-10, programmed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import crossbar as xb
from devices import Device, GaussianWrite, Polynomial, StateWrite

SPLITS = 3


@pytest.fixture(scope="module")
def trained():
    """Networks with the test images they have not seen."""
    from experiments.tasks.data import Digits, stratified

    images = Digits().load()
    pixels = torch.cat([images.x_train, images.x_test]).flatten(1)
    labels = torch.cat([images.y_train, images.y_test])
    found = []
    for split in range(SPLITS):
        torch.manual_seed(split)
        rest, part = stratified(labels, 0.25, split)
        x, y = pixels[rest], labels[rest]
        net = nn.Sequential(nn.Linear(64, 54), nn.ReLU(), nn.Linear(54, 10))
        optimiser = torch.optim.Adam(net.parameters(), 5e-3)
        for _ in range(25):
            for k in torch.randperm(len(x)).split(64):
                optimiser.zero_grad()
                nn.functional.cross_entropy(net(x[k]), y[k]).backward()
                optimiser.step()
        found.append((net, x, pixels[part], labels[part]))
    return found


def points(trained, chip, chips=1):
    """Mean accuracy [%] over the splits and so many chips of each."""
    found = []
    for net, x, t, z in trained:
        for seed in range(chips):
            model = xb.convert(net, chip, mode=xb.Programmed(), seed=seed)
            if chip.forward.calibrated:
                xb.calibrate(model, [x])
            with torch.no_grad():
                found.append(100 * float((model(t).argmax(-1) == z).double().mean()))
    return float(np.mean(found))


@pytest.mark.slow
def test_calibrated_ranges_beat_a_digital_offset_and_that_the_worst_case(trained):
    """Calibrated >> offset, which needs two to three bits more, >> worst case; 3 to 8 bits.

    Source: Xiao et al., IEEE Circuits Syst. Mag. 22(4), 26 (2022), arXiv:2109.01262.
    """
    cell, v_max = Device(0.0, 1e-4), 0.2
    found: dict[str, list[float]] = {"calibrated": [], "offset": [], "worst case": []}
    bits = (3, 4, 5, 6, 8)
    for b in bits:
        ports = {
            "calibrated": (xb.Differential(), xb.Calibrated()),
            "offset": (xb.SingleCell(), xb.Calibrated()),
            "worst case": (xb.Differential(), xb.Fixed(64 * v_max * 1e-4)),
        }
        for name, (mapping, policy) in ports.items():
            port = xb.Periphery(xb.DAC(8, v_max), xb.ADC(b, range=policy))
            found[name].append(points(trained, xb.Chip(cell, mapping, forward=port)))
    print({name: [round(p, 1) for p in values] for name, values in found.items()})
    for k, b in enumerate(bits[:-1]):
        assert found["calibrated"][k] > found["worst case"][k] + 2, b
        assert found["calibrated"][k] >= found["offset"][k] - 0.5, b
    assert found["calibrated"][0] > found["offset"][0] + 10  # 3 bits
    assert found["offset"][3] >= found["calibrated"][0] - 1  # three bits later
    assert found["offset"][1] > found["worst case"][1] + 10
    assert found["calibrated"][-1] > 95


@pytest.mark.slow
def test_pairs_beat_offsets_and_proportional_errors_even_ones_where_the_window_is_wide(trained):
    """Cell errors: differential > offset; proportional > even; on/off 100 as good as endless >> 2.

    Source: Xiao et al., IEEE Circuits Syst. Mag. 22(4), 26 (2022), arXiv:2109.01262.
    """

    def proportional(share, ratio):
        """σ = share · g in a window of that on/off ratio."""
        floor = 0.0 if ratio is None else 1 / (ratio - 1)
        g_min = 0.0 if ratio is None else 1e-4 / ratio
        return Device(g_min, 1e-4, write=StateWrite(Polynomial((share * floor, share))))

    even = Device(0.0, 1e-4, write=GaussianWrite(0.1))
    pair, offset = xb.Differential(), xb.OffsetColumn()
    found = {
        "pair, even": points(trained, xb.Chip(even, pair), 5),
        "offset, even": points(trained, xb.Chip(even, offset), 5),
        "pair, proportional": points(trained, xb.Chip(proportional(0.2, None), pair), 5),
        "offset, proportional": points(trained, xb.Chip(proportional(0.2, None), offset), 5),
        "on/off 100": points(trained, xb.Chip(proportional(0.2, 100), pair), 5),
        "on/off 10": points(trained, xb.Chip(proportional(0.2, 10), pair), 5),
        "on/off 2": points(trained, xb.Chip(proportional(0.2, 2), pair), 5),
    }
    print({name: round(p, 1) for name, p in found.items()})
    assert found["pair, even"] > found["offset, even"] + 5
    assert found["pair, proportional"] > found["offset, proportional"] + 5
    assert found["pair, proportional"] > found["pair, even"]
    assert abs(found["on/off 100"] - found["pair, proportional"]) < 1
    assert found["on/off 100"] >= found["on/off 10"] - 0.5
    assert found["on/off 10"] > found["on/off 2"] + 5

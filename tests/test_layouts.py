"""One read loop for every layout: mappings against torch's product and a composition in NumPy."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

import crossbar as xb
from devices import ConstantStep, Device, GaussianRead

CELL = Device(2e-6, 50e-6, update=ConstantStep(1e-9))
MAPPINGS = {
    "push-pull": xb.Differential(xb.PushPull()),
    "reference": xb.Differential(xb.Reference()),
    "one-sided": xb.Differential(xb.OneSided()),
    "per column": xb.Differential(per_column=True),
    "single": xb.SingleCell(),
    "single per column": xb.SingleCell(per_column=True),
    "offset column": xb.OffsetColumn(),
    "devices": xb.Devices(count=3),
    "devices reference": xb.Devices(xb.Reference(), count=2),
}
LAYERS = {
    "linear": (lambda: nn.Linear(7, 5), (4, 3, 7)),
    "conv1d": (lambda: nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2), (3, 4, 9)),
    "conv2d": (lambda: nn.Conv2d(2, 4, (3, 2), dilation=2, padding="same"), (3, 2, 6, 5)),
    "conv3d": (lambda: nn.Conv3d(2, 4, 2, stride=(1, 2, 1), padding=1, groups=2), (2, 2, 4, 5, 3)),
    "transposed1d": (lambda: nn.ConvTranspose1d(4, 6, 3, 2, 1, 1, groups=2), (3, 4, 5)),
    "transposed2d": (lambda: nn.ConvTranspose2d(3, 4, (3, 2), 2, dilation=(1, 2)), (2, 3, 4, 3)),
    "transposed3d": (lambda: nn.ConvTranspose3d(2, 3, 2, 2, padding=(1, 0, 1)), (2, 2, 3, 2, 3)),
}
EXACT = xb.Periphery(
    xb.DAC(bits=None, range=xb.Fixed(50.0)), xb.ADC(bits=None, range=xb.Fixed(1.0))
)


def error(want: torch.Tensor, got: torch.Tensor) -> float:
    return float((want - got).detach().abs().max() / want.detach().abs().max())


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("mapping", MAPPINGS)
def test_every_mapping_multiplies_and_trains_as_torch(layer, mapping):
    make, shape = LAYERS[layer]
    # tiles for two of three pairs, so that every mapping and every layer has both
    pair = list(LAYERS).index(layer) + list(MAPPINGS).index(mapping)
    tile = (4, 3) if pair % 3 else None
    torch.manual_seed(0)
    net, x = make().double(), torch.randn(shape, dtype=torch.float64)
    # lossless converters, so that every tile is converted and nothing is lost
    chip = xb.Chip(CELL, mapping=MAPPINGS[mapping], forward=EXACT, backward=EXACT, tile=tile)
    for mode in (xb.HardwareAware(), xb.InSitu(xb.Expected())):
        digital, analog = copy.deepcopy(net), xb.convert(net, chip, mode=mode, seed=1)
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        want, got = digital(a), analog(b)
        d = torch.randn_like(want)
        want.backward(d)
        got.backward(d)
        assert error(want, got) < 1e-12
        assert error(a.grad, b.grad) < 1e-12
        assert error(digital.weight.grad, analog.weight.grad) < 1e-12
        if isinstance(mode, xb.InSitu) and mapping != "one-sided":
            before, lr = analog.weight.detach().clone(), 1e-3
            xb.InSituSGD(analog, lr=lr).step()
            assert error(digital.weight.grad, (before - analog.weight) / lr) < 1e-9
            assert error(analog(x), torch.func.functional_call(
                net, {"weight": analog.weight.detach().clone(), "bias": analog.bias}, (x,)
            )) < 1e-12  # fmt: skip


@pytest.mark.parametrize("mapping", ["push-pull", "reference", "per column", "single", "devices"])
@pytest.mark.parametrize("layer", ["linear", "conv2d", "transposed2d"])
def test_float_weights_read_as_written_cells_do(mapping, layer):
    """Converters included, noiseless cells: hardware-aware equals programmed."""
    make, shape = LAYERS[layer]
    torch.manual_seed(1)
    net, x = make().double(), torch.randn(shape, dtype=torch.float64)
    device = Device(2e-6, 50e-6, update=ConstantStep(1e-9))
    chip = xb.Chip(
        device,
        mapping=MAPPINGS[mapping],
        forward=xb.Periphery(xb.DAC(6), xb.ADC(7)),
        tile=(5, 4),
    )
    hwa = xb.convert(net, chip, seed=3)
    with torch.no_grad():
        rehearsed = hwa(x)
        written = xb.program(hwa)(x)
        # codes that lie within rounding of a tie may differ by one
        step = (rehearsed - written).abs()
        assert float((step > 1e-12 * rehearsed.abs().max()).double().mean()) < 2e-3


def test_sliced_weights_are_the_integer_product():
    """Slices of a weight through lossless converters: the product of rounded weights, exactly."""
    torch.manual_seed(2)
    lin, x = nn.Linear(9, 4, bias=False).double(), torch.randn(5, 9, dtype=torch.float64)
    for widths in ((2, 2, 3), (1, 1, 2, 4), (8,)):
        chip = xb.Chip(Device(1e-6, 50e-6), mapping=xb.Slices(widths=widths), tile=(4, 4))
        top = 2 ** sum(widths) - 1
        w = lin.weight.detach().numpy()
        rounded = np.round(w / np.abs(w).max() * top) * np.abs(w).max() / top
        for mode in (xb.HardwareAware(), xb.Programmed()):
            with torch.no_grad():
                got = xb.convert(lin, chip, mode=mode, seed=0)(x)
            assert np.abs(got.numpy() - x.numpy() @ rounded.T).max() < 1e-12
    with pytest.raises(TypeError, match="carry"):
        xb.convert(lin, xb.Chip(mapping=xb.Slices()), mode=xb.InSitu(), seed=0)


def test_sliced_read_through_converters_equals_a_composition_in_numpy():
    torch.manual_seed(3)
    lin, x = nn.Linear(8, 3, bias=False).double(), torch.randn(6, 8, dtype=torch.float64)
    port = xb.Periphery(xb.DAC(bits=5, v_max=0.1), xb.ADC(bits=6))
    device = Device(1e-6, 50e-6)
    chip = xb.Chip(device, mapping=xb.Slices(widths=(3, 2)), forward=port, tile=(4, None or 8))
    w = lin.weight.detach().numpy().T
    w_max, x = np.abs(w).max(), x.numpy()
    code = np.round(np.abs(w) / w_max * 31).astype(int)
    digits = [(code >> 2) / 7, (code & 3) / 3]
    peak = np.abs(x).max(1, keepdims=True)
    v = np.round(x / peak * 15) / 15
    total = 0.0
    for digit, weight in zip(digits, (7 * 4 / 31, 3 / 31), strict=True):
        for rows in (slice(0, 4), slice(4, 8)):
            m = digit[rows] * np.sign(w[rows])
            i, n = v[:, rows] @ m, np.linalg.norm(m, axis=0)
            full = np.minimum(2 * n, abs(m.sum(0)) + 8 * n).max()
            total = total + weight * np.clip(np.round(i / full * 31), -31, 31) * full / 31
    with torch.no_grad():
        got = xb.convert(lin, chip, mode=xb.Programmed(), seed=0)(torch.tensor(x)).numpy()
    assert np.abs(got - total * peak * w_max).max() < 1e-12


@pytest.mark.parametrize("mapping", ["push-pull", "reference", "single", "devices"])
def test_read_noise_has_the_variance_of_its_cells(mapping):
    """Uniform noise σΔG of each of K cells, closed form; both float weights and cells."""
    torch.manual_seed(4)
    sigma, lin = 0.02, nn.Linear(12, 3, bias=False)
    x = torch.randn(12)
    layout = MAPPINGS[mapping].layout(CELL)
    weight, cells = layout.columns[0].weight, layout.devices
    want = sigma * weight * cells**0.5 * float(lin.weight.detach().abs().max() * x.norm())
    device = Device(2e-6, 50e-6, update=ConstantStep(1e-9), read=GaussianRead(sigma))
    for mode in (xb.HardwareAware(), xb.Programmed()):
        model = xb.convert(lin, xb.Chip(device, mapping=MAPPINGS[mapping]), mode=mode, seed=5)
        with torch.no_grad():
            spread = model(x.expand(40000, 12)).std(0)
        # standard error of a standard deviation, 5 of them
        assert float((spread / want - 1).abs().max()) < 5 / (2 * 40000) ** 0.5


def test_a_unit_of_drift_cancels_in_a_reference_column_and_not_digitally():
    """All conductances fall by the same factor: an offset that drifts with them cancels."""
    torch.manual_seed(5)
    W, x = torch.rand(6, 9).double() - 0.3, torch.rand(9).double()
    for mapping, cancels in ((xb.Differential(), True), (xb.SingleCell(), False)):
        A = xb.matrix(W, xb.Chip(Device(0.0, 50e-6), mapping=mapping), seed=0)
        with torch.no_grad():
            A.cells.g.mul_(0.8)
        y = A @ x
        best = (y @ (W @ x)) / (y @ y)
        assert (float((best * y - W @ x).abs().max()) < 1e-12) == cancels

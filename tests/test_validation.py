"""Bad input: every message names the field, the value and what is allowed."""

from __future__ import annotations

import math
import re

import pytest
import torch
from torch import nn

import crossbar as xb
from devices import (
    ConstantStep,
    Device,
    GaussianRead,
    LinearStep,
    NeuroSim,
    PowerLawDrift,
    SoftBounds,
    StuckAt,
    presets,
)
from tests._analog import cells_of, matrix_of


def linear(weight):
    layer = nn.Linear(3, 2, bias=False)
    layer.weight = nn.Parameter(torch.full((2, 3), weight))
    return layer


ONES = torch.ones(1, 2)

CASES = [
    (lambda: Device(5e-6, 1e-6), ValueError, "g_min must be below g_max.*5e-06.*1e-06"),
    (lambda: Device(1e-6, 1e-6), ValueError, "g_min must be below g_max"),
    (lambda: Device(-1e-6, 1e-6), ValueError, "g_min must be >= 0"),
    (lambda: Device(1.0, 25.0), ValueError, "g_max.*25.*25 uS is 25e-6"),
    (lambda: Device(0, math.nan), ValueError, "g_max must be finite"),
    (lambda: Device("a", 1e-6), TypeError, "g_min must be a real number.*'a'"),
    (lambda: Device(0, 1e-6, update=GaussianRead(0.1)), TypeError, "update must be a Update"),
    (lambda: Device(0, 1e-6, update=SoftBounds), TypeError, r"did you mean SoftBounds\(\)"),
    (lambda: SoftBounds(0.0), ValueError, "dg_min must be > 0 S, got 0.0"),
    (lambda: SoftBounds(1e-6, sigma_c2c=-1), ValueError, "sigma_c2c must be >= 0.*-1"),
    (lambda: ConstantStep(1e-6, up_down=3), ValueError, r"up_down must be in \[-2, 2\].*3"),
    (lambda: LinearStep(1e-6, gamma_up=2), ValueError, r"gamma_up must be in \[0, 1\]"),
    (lambda: NeuroSim(0, 5), ValueError, "states_up must be >= 1, got 0"),
    (lambda: NeuroSim(5, 5, nl_up=12), ValueError, r"nl_up must be in \[-9, 9\]"),
    (lambda: GaussianRead(-0.1), ValueError, "sigma must be >= 0"),
    (lambda: PowerLawDrift(0.1, t0=0), ValueError, "t0 must be > 0 s"),
    (lambda: StuckAt(0.7, 0.7), ValueError, r"p_off \+ p_on.* must be in \[0, 1\], got 1.4"),
    (
        lambda: Device(0, 1e-6, update=SoftBounds(0.9e-6)).fabricate((2,)),
        ValueError,
        "dg_min must be at most 5e-07 S.*9e-07",
    ),
    (lambda: Device(0, 1e-6).pulse(None, None), TypeError, "update=None"),
    (
        lambda: presets.ideal().drive(presets.ideal().fabricate((1,)), torch.ones(1), 1.0),
        TypeError,
        "voltage dynamics",
    ),
    (lambda: xb.DAC(bits=0), ValueError, r"bits must be in \[1, 24\], got 0"),
    (lambda: xb.ADC(bits=2.5), TypeError, "bits must be an int, got 2.5"),
    (lambda: xb.DAC(v_max=0), ValueError, "v_max must be > 0 V"),
    (lambda: xb.DAC(range=xb.Fixed()), ValueError, "range of a DAC"),
    (lambda: xb.Fixed(-1.0), ValueError, "full_scale must be > 0"),
    (lambda: xb.Calibrated(0), ValueError, "quantile"),
    (lambda: xb.quantize(torch.ones(2), 0), ValueError, "bits must be in"),
    (lambda: xb.Periphery(adc=8), TypeError, "adc must be a Converter or None, got 8"),
    (lambda: xb.Differential(w_max=0), ValueError, "w_max must be > 0"),
    (lambda: xb.Differential(route=xb.PushPull), TypeError, r"did you mean PushPull\(\)"),
    (lambda: xb.Chip(device="reram"), TypeError, "device must be a Device, got 'reram'"),
    (lambda: xb.Chip(tile=(0, 5)), ValueError, "tile rows must be >= 1"),
    (lambda: xb.Chip(tile=256), TypeError, r"tile must be \(rows, columns\)"),
    (lambda: xb.Aggregated(bl=0), ValueError, "bl must be in"),
    (lambda: xb.Sequential("bits"), TypeError, "scheme must be a Scheme"),
    (lambda: xb.InSitu(xb.Reference()), TypeError, "scheme must be a Scheme"),
    (lambda: xb.AnalogLinear(2, 2, seed=-1), ValueError, "seed must be in"),
    (lambda: xb.AnalogLinear(2, 2, seed=1.5), TypeError, "seed must be an int"),
    (lambda: xb.AnalogLinear(2, 2, chip=presets.ideal()), TypeError, "chip must be a Chip"),
    (
        lambda: xb.AnalogLinear(2, 2, chip=xb.Chip(presets.pcm()), mode=xb.InSitu()),
        TypeError,
        "write-only.*HardwareAware",
    ),
    (
        lambda: xb.convert(linear(math.nan), xb.Chip(), mode=xb.InSitu()),
        ValueError,
        "weight must be finite",
    ),
    (
        lambda: xb.program(xb.convert(linear(math.inf), xb.Chip())),
        ValueError,
        "weight must be finite",
    ),
    (lambda: xb.convert(nn.ReLU(), xb.Chip()), ValueError, "no layer to convert"),
    (lambda: xb.convert(linear(1.0), xb.Chip(), exclude=["x"]), ValueError, "'x'"),
    (lambda: xb.advance(linear(1.0), 1.0), ValueError, "no analog layers"),
    (lambda: xb.advance(xb.AnalogLinear(2, 2), -1), ValueError, "seconds must be >= 0 s"),
    (lambda: xb.AnalogLinear(3, 2)(torch.ones(4, 5)), ValueError, r"3 features.*\(4, 5\)"),
    (lambda: xb.AnalogLinear(3, 2)(torch.ones(3).double()), TypeError, "float32.*float64"),
    (lambda: xb.AnalogConv2d(3, 2, 3)(torch.ones(2, 2, 5, 5)), ValueError, r"\(n, 3, h, w\)"),
    (lambda: xb.matrix(torch.ones(3), xb.Chip()), ValueError, r"\(m, n\)"),
    (lambda: xb.matrix(torch.ones(3, 2)) @ torch.ones(3), ValueError, r"x must be \(2,\)"),
    (lambda: xb.InSituSGD(xb.AnalogLinear(2, 2), lr=0), ValueError, "lr must be > 0, got 0"),
    (lambda: xb.InSituSGD(xb.AnalogLinear(2, 2), lr=1, max_norm=0), ValueError, "max_norm"),
    (
        lambda: xb.InSituSGD(xb.AnalogLinear(2, 2, mode=xb.Programmed()), lr=1),
        TypeError,
        "only read.*InSitu",
    ),
    (
        lambda: matrix_of(xb.AnalogLinear(2, 2)).update(ONES, ONES, 1.0, xb.Expected()),
        TypeError,
        "no cells yet.*program",
    ),
    (lambda: xb.advance(xb.AnalogLinear(2, 2), 1.0), TypeError, "'?weight'?.*call program first"),
    (
        lambda: xb.Chip(backward=xb.Periphery(xb.DAC(range=xb.Calibrated()))),
        ValueError,
        "backward must not have range=Calibrated.*PerVector",
    ),
    (lambda: xb.calibrate(xb.AnalogLinear(2, 2), []), ValueError, "batches"),
]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_message_names_field_value_and_range(case):
    call, kind, pattern = CASES[case]
    with pytest.raises(kind) as caught:
        call()
    assert re.search(pattern, str(caught.value)), str(caught.value)


def test_programmed_layers_cannot_be_trained():
    layer = xb.AnalogLinear(3, 2, mode=xb.Programmed())
    layer.weight.requires_grad_(True)
    with pytest.raises(TypeError, match="only read"):
        layer(torch.ones(1, 3)).sum().backward()


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("mode", [xb.HardwareAware(), xb.InSitu(), xb.Programmed()])
def test_inputs_that_are_not_finite_show_in_the_output(value, mode):
    """Nothing asks the device for its numbers, and no converter hides them."""
    converters = xb.Periphery(xb.DAC(8), xb.ADC(8))
    for chip in (xb.Chip(), xb.Chip(forward=converters)):
        layer = xb.AnalogLinear(3, 2, chip=chip, mode=mode, seed=0)
        x = torch.tensor([[1.0, value, 2.0], [1.0, 0.5, 2.0]])
        y = layer(x)
        assert not bool(y[0].isfinite().any()) and bool(y[1].isfinite().all())


def test_large_but_finite_inputs_are_fine():
    layer = xb.AnalogLinear(2, 2, bias=False)
    assert layer(torch.tensor([3e38, 3e38])).shape == (2,)


def test_a_new_array_starts_in_the_window_even_for_zero_weights():
    layer = xb.convert(linear(0.0), xb.Chip(), mode=xb.InSitu())
    assert float(cells_of(layer).w_max) == pytest.approx(4 / math.sqrt(3))

"""aihwkit-lightning as an oracle of ranges and rounding, where it is installed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import crossbar as xb
from devices import ConstantStep, Device

CELL = Device(2e-6, 50e-6, update=ConstantStep(1e-9))


@pytest.mark.slow
def test_ranges_and_rounding_are_those_of_aihwkit_lightning():
    """50 random bits, bounds and tiles, 1e-5; currents within 1e-6 of a tie may differ by a code.

    Lightning counts 2^b − 2 steps and takes each tile's largest weight, of all outputs or of each;
    both have one in every tile and output here, so that ours, the tensor's, is the same.
    """
    pytest.importorskip(
        "aihwkit_lightning", reason="pip install --no-deps aihwkit-lightning==2.1.0"
    )
    from aihwkit_lightning.nn import AnalogLinear
    from aihwkit_lightning.simulator.configs import TorchInferenceRPUConfig, WeightClipType

    rng = np.random.default_rng(0)
    differing = total = clipped = 0
    for _ in range(50):
        dac, adc = (int(b) for b in rng.integers(2, 11, 2))
        bound, top = float(np.exp(rng.uniform(-1.5, 2.5))), float(rng.uniform(0.5, 4))
        tiles, rows, cols = (int(n) for n in rng.integers((1, 2, 1), (5, 40, 20)))
        per_column = bool(rng.integers(2))
        config = TorchInferenceRPUConfig()
        config.forward.inp_res, config.forward.out_res = 2**dac - 2, 2**adc - 2
        config.forward.out_bound, config.mapping.max_input_size = bound, rows
        config.pre_post.input_range.enable = True
        config.pre_post.input_range.init_value = top
        if per_column:
            config.clip.type = WeightClipType.LAYER_GAUSSIAN_PER_CHANNEL
        theirs = AnalogLinear(tiles * rows, cols, bias=False, rpu_config=config).double().eval()
        w = torch.tensor(
            rng.normal(size=(cols, tiles, rows)) * rng.uniform(0.01, 2), dtype=torch.float64
        )
        largest = w.abs().amax((1, 2), keepdim=True) if per_column else w.abs().amax()
        w[:, :, 0] = largest.squeeze(-1) if per_column else largest
        w = w.flatten(1)
        x = torch.tensor(rng.normal(size=(20, tiles * rows)), dtype=torch.float64)
        theirs.weight.data.copy_(w)
        net = nn.Linear(tiles * rows, cols, bias=False).double()
        net.weight.data.copy_(w)
        port = xb.Periphery(
            xb.DAC(dac, range=xb.Fixed(top)),
            xb.ADC(adc, range=xb.Fixed(bound * 0.2 * CELL.window.span)),
        )
        mapping = xb.Differential(xb.PushPull(), per_column=per_column)
        chip = xb.Chip(CELL, mapping, forward=port, tile=(rows, cols))
        ours = xb.convert(net, chip, mode=xb.HardwareAware(), seed=0)
        with xb.observe(ours, xb.Tally(ours)) as tally, torch.no_grad():
            want, got = theirs(x.clone()), ours(x)
        clipped += tally["weight"].clipped > 0
        scale = want.abs().amax().clamp(min=1e-9)
        step = top * bound * largest.reshape(-1) / (2 ** (adc - 1) - 1)
        off = (want - got).abs()
        wrong = off > 1e-5 * scale
        if bool(wrong.any()):  # where a tile's current lies on a tie
            v = (x / top * (2 ** (dac - 1) - 1)).round().div(2 ** (dac - 1) - 1).clamp(-1, 1) * top
            i = torch.einsum(
                "nti,oti->nto", v.unflatten(1, (tiles, rows)), w.unflatten(1, (tiles, rows))
            )
            near = ((i / step).remainder(1) - 0.5).abs().amin(1) < 1e-6
            share = x / top * (2 ** (dac - 1) - 1)
            tied = (share.remainder(1) - 0.5).abs().amin(1) < 1e-6
            assert bool((near | tied.unsqueeze(1))[wrong].all())
            assert bool((off <= step * tiles * 1.001 + 1e-5 * scale).all())
        differing, total = differing + int(wrong.sum()), total + wrong.numel()
    print(f"{differing} of {total} outputs differ by codes at a tie; {clipped} of 50 clip")
    assert differing < 0.01 * total and 10 < clipped < 50

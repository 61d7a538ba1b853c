"""Bytes that a weight takes between two steps, as the system counts resident memory."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="resident memory from /proc")

SCRIPT = """
import ctypes, gc, torch
import crossbar as xb
from devices import Device, SoftBounds

def resident():
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * 4096

def step(layer, optimiser):
    (1e-3 * layer(x).square().mean()).backward()
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)

torch.set_num_threads(1)
n, law = 1536, SoftBounds(0.05e-6, sigma_c2c=0.3, {spread})
chip, mode, x = xb.Chip(Device(1e-6, 50e-6, update=law)), xb.InSitu(gradient=False), None
x = torch.rand(4, 64)
warm = xb.AnalogLinear(64, 64, bias=False, chip=chip, mode=mode, seed=0)  # workspaces, code
step(warm, xb.InSituSGD(warm, lr=0.01))
x = torch.rand(4, n)
before = resident()
layer = xb.AnalogLinear(n, n, bias=False, chip=chip, mode=mode, seed=0)
optimiser = xb.InSituSGD(layer, lr=0.01)
for _ in range(2):
    step(layer, optimiser)
print((resident() - before) / n**2)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spread", "most"),
    [
        ("sigma_d2d=0.3", 24.0),  # 2 x 4 of g, 2 x 4 of the steps, the plane, the parameter
        ("sigma_d2d=0.3, sigma_up_down=0.1", 32.0),
    ],
)
def test_a_weight_in_situ_takes_what_its_cells_differ_in(spread, most):
    script = SCRIPT.replace("{spread}", spread)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    # blocks of the laws stay in malloc's hands, some 2 MB whatever the layer: less than one number
    assert 0.75 * most < float(done.stdout) < most + 2

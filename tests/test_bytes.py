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

def made(n):
    x = torch.rand(4, n)
    layer = xb.AnalogLinear(n, n, bias=False, chip=chip, mode=mode, seed=0)
    optimiser = None
    for _ in range(2):
        if isinstance(mode, xb.Programmed):
            with torch.no_grad():
                layer(x)
            continue
        optimiser = optimiser or xb.InSituSGD(layer, lr=0.01)
        (1e-3 * layer(x).square().mean()).backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    return layer, optimiser

torch.set_num_threads(1)
n, law = 1536, {law}
chip, mode = xb.Chip(Device(1e-6, 50e-6, update=law)), xb.{mode}
warm = made(64)  # workspaces, code
before = resident()
layer = made(n)
print((resident() - before) / n**2)
"""

SPREAD = "SoftBounds(0.05e-6, sigma_c2c=0.3, sigma_d2d=0.3)"
BOTH = "SoftBounds(0.05e-6, sigma_c2c=0.3, sigma_d2d=0.3, sigma_up_down=0.1)"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("law", "mode", "most"),
    [
        (SPREAD, "InSitu(gradient=False)", 24.0),  # 2 x 4 of g, 2 x 4 of steps, plane, parameter
        (BOTH, "InSitu(gradient=False)", 32.0),
        (SPREAD, "InSitu(gradient=False, compact=True)", 10.0),  # parameter, code, 2 x 2 of steps
        (BOTH, "InSitu(gradient=False, compact=True)", 14.0),
        ("None", "Programmed()", 16.0),
        ("None", "Programmed(compact=True)", 6.0),
    ],
)
def test_a_weight_takes_what_its_cells_differ_in(law, mode, most):
    script = SCRIPT.replace("{law}", law).replace("{mode}", mode)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    # blocks of the laws stay in malloc's hands, some 2 MB whatever the layer: less than one number
    assert 0.75 * most < float(done.stdout) < most + 2, done.stdout

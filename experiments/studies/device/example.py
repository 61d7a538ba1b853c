"""Makes the example of pulse data: `python -m experiments.studies.device.example PATH`.

Eight soft-bounds cells, three cycles of 40 up and 40 down pulses, one read after each; one read in
a hundred fails and one in two hundred is an outlier.
"""

from __future__ import annotations

import math
import sys
from dataclasses import replace

import torch

from devices import Device, GaussianRead, PulseData, SoftBounds

CELL = Device(
    g_min=10e-6,
    g_max=60e-6,
    update=SoftBounds(
        dg_min=1.2e-6,
        up_down=0.15,
        sigma_c2c=0.25,
        sigma_d2d=0.15,
        sigma_up_down=0.04,
        sigma_bounds=0.05,
    ),
    read=GaussianRead(0.004),
)


def example() -> PulseData:
    """The data, the same at every call."""
    generator = torch.Generator().manual_seed(2024)
    data = PulseData.measured(CELL, cells=8, cycles=3, pulses=40, generator=generator)
    draw = torch.rand(len(data), generator=generator)
    g = torch.where(draw < 0.005, data.g * (1.5 + draw * 100), data.g)
    g = torch.where(draw > 0.99, math.nan, g)
    return replace(data, g=g)


if __name__ == "__main__":
    example().write_csv(sys.argv[1])

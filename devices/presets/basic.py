"""The perfect cell."""

from __future__ import annotations

from devices.device import Device
from devices.update.stepped import ConstantStep


def ideal() -> Device:
    """A perfect cell: 1000 equal steps, no noise, no drift, exact writing, 0 … 100 µS.

    With `Expected` pulses it is stochastic gradient descent, whatever the step. A step much finer
    than this would saturate 31-bit trains at ordinary learning rates.
    """
    return Device(g_min=0.0, g_max=100e-6, update=ConstantStep(dg_min=0.1e-6))

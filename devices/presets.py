"""Ready-made devices with their published constants."""

from __future__ import annotations

from devices.device import Device
from devices.pcm import PCMDrift, PCMWrite
from devices.stepped import ConstantStep


def ideal() -> Device:
    """A perfect cell: 1000 equal steps, no noise, no drift, exact writing, 0 … 100 µS.

    With `Expected` pulses it is stochastic gradient descent, whatever the step. A step much finer
    than this would saturate 31-bit trains at ordinary learning rates.
    """
    return Device(g_min=0.0, g_max=100e-6, update=ConstantStep(dg_min=0.1e-6))


def pcm() -> Device:
    """Doped-GST phase-change memory, 90 nm, programmed for inference (write-only), 0 … 25 µS.

    Programming error and drift of Joshi et al., Nat. Commun. 11:2473 (2020),
    doi:10.1038/s41467-020-16108-9, and Nandakumar et al., ICECS 2019.
    """
    return Device(g_min=0.0, g_max=25e-6, write=PCMWrite(), retention=PCMDrift())

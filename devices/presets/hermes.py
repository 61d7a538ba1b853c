"""The IBM HERMES project chip's cells."""

from __future__ import annotations

from devices.device import Device
from devices.technology.hermes import FITS, HermesDrift, HermesRead, HermesWrite


def hermes_1() -> Device:
    """Phase-change memory of the HERMES chip, one device a cell, 0 … 10.35 µS (write-only).

    | quantity | value |
    |---|---|
    | programming error | 0.16 µS at 0, 1.0 µS at g_max |
    | drift exponent | 0.13 … 0.017 in the mean, falling with the state; t0 = 200 s |
    | read noise | 1/f, σ/g 7.3 % at g_max after one second |

    Curve: g_max/2 keeps 0.847 of its value after an hour, 0.710 after a day (at the mean exponent).

    Source: Le Gallo et al., Nat. Electron. 6, 680 (2023), doi:10.1038/s41928-023-01010-1, constants
    as in aihwkit's HermesNoiseModel.
    """
    return _hermes(1)


def hermes_2() -> Device:
    """Phase-change memory of the HERMES chip, two devices a cell, 0 … 20.7 µS (write-only).

    | quantity | value |
    |---|---|
    | programming error | 0.17 µS at 0, 0.9 … 1.1 µS from a quarter of g_max on |
    | drift exponent | as `hermes_1` in the mean, less spread; t0 = 300 s |
    | read noise | 1/f, σ/g 5.4 % at g_max after one second |

    Curve: g_max/2 keeps 0.865 of its value after an hour, 0.726 after a day (at the mean exponent).

    Source: as `hermes_1`; Vasilopoulos et al., IEEE Trans. Electron Devices (2023), IEEE Xplore
    10281389.
    """
    return _hermes(2)


def _hermes(devices: int) -> Device:
    return Device(
        0.0,
        FITS[devices].g_max,
        write=HermesWrite(devices),
        read=HermesRead(devices),
        retention=HermesDrift(devices),
    )

"""Cells programmed for inference: write error, read noise and what time does (no update law)."""

from __future__ import annotations

from devices.device import Device
from devices.retention.relaxation import LogRelaxation
from devices.technology.cmo import CMORead, CMOWrite
from devices.technology.milo import MiloIV, MiloWrite
from devices.technology.pcm import PCMDrift, PCMWrite
from devices.technology.pcm_read import PCMRead
from devices.technology.sonos import SONOSRead, SONOSWrite
from devices.technology.sonos_retention import SONOSRetention
from devices.technology.wan import WanWrite


def pcm() -> Device:
    """Doped-GST phase-change memory, 90 nm, 0 … 25 µS (write-only).

    | quantity | value |
    |---|---|
    | programming error | 0.26 … 1.08 µS, largest at three quarters of g_max |
    | drift exponent | 0.1 … 0.049 in the mean, falling with the state |
    | read noise | 1/f, σ/g 3.7 % at g_max and 16 % at a tenth of it after one second |

    Curve: g_max/2 falls to 0.775 of its value in an hour, 0.664 in a day, 0.497 in a year.

    Source: Joshi et al., Nat. Commun. 11:2473 (2020), doi:10.1038/s41467-020-16108-9; Nandakumar et
    al., ICECS 2019, doi:10.1109/ICECS46596.2019.8964852.
    """
    return Device(0.0, 25e-6, write=PCMWrite(), retention=PCMDrift(), read=PCMRead())


def rram_wan() -> Device:
    """Foundry HfOx RRAM of the NeuRRAM chip one second after programming, 0 … 40 µS (write-only).

    | quantity | value |
    |---|---|
    | programming error | 0.35 µS at 0, 2.0 … 2.4 µS at mid-range, 1.0 µS at g_max |

    Curve: error against conductance, one hump at mid-range. Relaxation to one or two days:
    `WanWrite(after=86400.0)`. Values at the ends of the range differ between digitisations.

    Source: Wan et al., Nature 608, 504 (2022), doi:10.1038/s41586-022-04992-8.
    """
    return Device(0.0, 40e-6, write=WanWrite())


def rram_milo() -> Device:
    """HfO2 RRAM programmed incrementally with verification, 50 … 225 µS (write-only).

    | quantity | value |
    |---|---|
    | programming error | 4.3 µS at 50 µS to 2.7 µS at 225 µS |
    | read current | cubic in the voltage, |V| <= 0.5 V |

    Curve: error against conductance, a nearly flat line: bad for weights near zero.

    Source: Milo et al., IEEE IRPS 2021, doi:10.1109/IRPS46558.2021.9405119, as fitted in CrossSim
    3.
    """
    return Device(50e-6, 225e-6, write=MiloWrite(), iv=MiloIV())


def cmo_hfox() -> Device:
    """Conductive-metal-oxide/HfOx RRAM at 2 % acceptance, 9 … 88.2 µS (write-only).

    | quantity | value |
    |---|---|
    | programming error | 0.11 µS at 9 µS to 1.0 µS at 88.2 µS |
    | relaxation | −0.089 µS per factor e in time, spread 0.41 µS + 0.042 µS per factor e |
    | read noise | 1/f, 0.09 µS at 9 µS to 0.2 µS at 88.2 µS after one second |

    Curve: shift and spread of the conductance, straight lines against log time and independent of
    the state.

    Source: Falcone et al., arXiv:2502.04524 (2025), constants as in aihwkit.
    """
    return Device(9e-6, 88.2e-6, write=CMOWrite(), read=CMORead(), retention=LogRelaxation())


def sonos() -> Device:
    """SONOS charge trap, 40 nm, cell currents to 1600 nA, 0 … 16 µS at 0.1 V (write-only).

    | quantity | value |
    |---|---|
    | spread of currents | 19.9 nA far above 176 nA, zero for a cell that is off |
    | read noise | 12.6 nA far above 215 nA |
    | retention | spread grows to 34.6 nA in five days, the mean falls by up to 60 nA |

    Curve: error against current, rising from zero and saturating. The read voltage that turns
    currents into conductances is an assumption.

    Source: Agrawal et al., IEDM 2022, IEEE Xplore 10019564, as fitted in CrossSim 3.
    """
    return Device(0.0, 16e-6, write=SONOSWrite(), read=SONOSRead(), retention=SONOSRetention())

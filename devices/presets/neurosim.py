"""The benchmark devices of MLP NeuroSim V3.0 (device table of its manual).

Curve of each: g from g_min to g_max in N↑ identical pulses and back in N↓, with the curvature of
its labels; sigma_c2c is a part of the window added by every pulse. The manual's "< x %" is taken as
x. Write pulses are those of the same table, potentiation first; each gives the joules a pulse at
g_max, V² g_max t, that the table's users quote (TaOx/HfOx 1.3 pJ … AlOx/HfO2 4.8 nJ).
"""

from __future__ import annotations

from devices.device import Device
from devices.electrical import WritePulse
from devices.update.neurosim import NeuroSim


def _device(
    r_on: float,
    on_off: float,
    law: NeuroSim,
    pulse: tuple[float, float, float, float] | None = None,  # up, down [V]; up, down [s]
) -> Device:
    write = None if pulse is None else WritePulse(*pulse, source="MLP NeuroSim V3.0, device table")
    return Device(1 / (r_on * on_off), 1 / r_on, update=law, write_pulse=write)


def ag_si() -> Device:
    """Ag:a-Si: 97/100 states, labels 2.4/−4.88, R_on 26 MΩ, on/off 12.5, noise 3.5 %.

    Source: Jo et al., Nano Lett. 10, 1297 (2010), doi:10.1021/nl904092h; MLP NeuroSim V3.0 manual.
    """
    return _device(
        26e6, 12.5, NeuroSim(97, 100, 2.4, -4.88, sigma_c2c=0.035), (3.2, 2.8, 300e-6, 300e-6)
    )


def taox_tio2() -> Device:
    """TaOx/TiO2: 102 states, labels 1.85/−1.79, R_on 5 MΩ, on/off 2, noise below 1 %.

    Source: Gao et al., ACS Nano 9, 9129 (2015); device table of the NeuroSim V2.0 manual.
    """
    return _device(5e6, 2.0, NeuroSim(102, 102, 1.85, -1.79, sigma_c2c=0.01))


def taox_hfox() -> Device:
    """TaOx/HfOx: 128 states, labels 0.04/−0.63, R_on 100 kΩ, on/off 10, noise 3.7 %.

    Source: Wu et al., VLSI Technology 2018, doi:10.1109/VLSIT.2018.8510690; NeuroSim V3.0 manual.
    """
    return _device(
        100e3, 10.0, NeuroSim(128, 128, 0.04, -0.63, sigma_c2c=0.037), (1.6, 1.6, 50e-9, 50e-9)
    )


def pcmo() -> Device:
    """PCMO: 50 states, labels 3.68/−6.76, R_on 23 MΩ, on/off 6.84, noise below 1 %.

    Source: Park et al., IEDM 2013, doi:10.1109/IEDM.2013.6724692; MLP NeuroSim V3.0 manual.
    """
    return _device(
        23e6, 6.84, NeuroSim(50, 50, 3.68, -6.76, sigma_c2c=0.01), (2.0, 2.0, 1e-3, 1e-3)
    )


def alox_hfo2() -> Device:
    """AlOx/HfO2: 40 states, labels 1.94/−0.61, R_on 16.9 kΩ, on/off 4.43, noise 5 %.

    Source: Woo et al., IEEE Electron Device Lett. 37, 994 (2016), doi:10.1109/LED.2016.2582859; MLP
    NeuroSim V3.0 manual.
    """
    return _device(
        16.9e3, 4.43, NeuroSim(40, 40, 1.94, -0.61, sigma_c2c=0.05), (0.9, 1.0, 100e-6, 100e-6)
    )


def epiram() -> Device:
    """Epitaxial SiGe RAM: 64 states, labels 0.5/−0.5, R_on 81 kΩ, on/off 50.2, noise 2 %.

    Source: Choi et al., Nat. Mater. 17, 335 (2018), doi:10.1038/s41563-017-0001-5; NeuroSim V3.0
    manual.
    """
    return _device(81e3, 50.2, NeuroSim(64, 64, 0.5, -0.5, sigma_c2c=0.02), (5.0, 3.0, 5e-6, 5e-6))


def gst_pcm() -> Device:
    """GST phase change: 100/120 states, labels 0.105/2.4, R_on 4.71 kΩ, on/off 19.8, noise 1.5 %.

    The manual gives "100-120" states; which is which direction is not stated.

    Source: Nandakumar et al., IEEE ISCAS 2018; MLP NeuroSim V3.0 manual (paper unconfirmed).
    """
    return _device(
        4.71e3, 19.8, NeuroSim(100, 120, 0.105, 2.4, sigma_c2c=0.015), (0.7, 3.0, 6e-6, 125e-9)
    )


def fefet() -> Device:
    """HZO ferroelectric FET: 32 states, labels 1.75/1.46, R_on 559.28 kΩ, on/off 45, noise 0.5 %.

    Source: Jerry et al., IEDM 2017, doi:10.1109/IEDM.2017.8268338; MLP NeuroSim V3.0 manual.
    """
    return _device(
        559.28e3, 45.0, NeuroSim(32, 32, 1.75, 1.46, sigma_c2c=0.005), (3.65, 2.95, 75e-9, 75e-9)
    )

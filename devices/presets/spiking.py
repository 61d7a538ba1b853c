"""Cells of spiking and dynamical experiments."""

from __future__ import annotations

from devices.device import Device
from devices.retention.leak import Leak
from devices.update.binary import StochasticSwitch
from devices.update.querlioz import QuerliozStep
from devices.update.volatile import VolatileStep
from devices.update.vteam import VTEAM


def querlioz() -> Device:
    """The generic memristive synapse of Querlioz et al.; window 0.1 … 10 µS is an assumption.

    | quantity | value |
    |---|---|
    | α₊, α₋ | 0.01, 0.005 of the window |
    | β₊, β₋ | 3, 3 |
    | spread | 25 % from cell to cell, one draw for both steps |

    Curve: steps shrink by e³ = 20 over the window in either direction.

    Source: Querlioz et al., IEEE Trans. Nanotechnol. 12, 288 (2013),
    doi:10.1109/TNANO.2013.2250995.
    """
    low, high = 0.1e-6, 10e-6
    return Device(
        low, high, update=QuerliozStep(0.0075 * (high - low), up_down=2 / 3, sigma_d2d=0.25)
    )


def cbram_binary() -> Device:
    """Binary stochastic conductive-bridge cell, 1 µS … 100 µS.

    | quantity | value |
    |---|---|
    | switching probability | 0.1 per pulse, set by the pulse amplitude |
    | levels | a decade and more apart |

    Curve: share of switched cells 1 − 0.9ⁿ after n pulses. Window, probability and the spread of
    levels (5 % of the window) are typical values of the source's figures, not confirmed constants.

    Source: Suri et al., IEEE Trans. Electron Devices 60, 2402 (2013), doi:10.1109/TED.2013.2263000.
    """
    return Device(1e-6, 100e-6, update=StochasticSwitch(0.1, 0.1, sigma_levels=0.05))


def wox_volatile() -> Device:
    """Volatile WOx memristor for reservoirs, 0.1 … 1 µS.

    | quantity | value |
    |---|---|
    | time constant | 50 ms |
    | write pulse | 1.5 V, 1 ms |

    Curve: a pulse lifts the cell, which has forgotten 1 − 1/e of it after 50 ms. The time constant
    and the pulse are the source's; window, voltage sensitivity and step are assumptions.

    Source: Du et al., Nat. Commun. 8:2204 (2017), doi:10.1038/s41467-017-02337-y.
    """
    return Device(
        0.1e-6,
        1e-6,
        update=VolatileStep(tau=0.05, v_write=1.5, width=1e-3),
        retention=Leak(tau=0.05, rest=0.0),
    )


def vteam() -> Device:
    """Threshold memristor 50 Ω … 1 kΩ with the thresholds and exponents of the VTEAM examples.

    | quantity | value |
    |---|---|
    | R_on, R_off | 50 Ω, 1 kΩ |
    | v_off, v_on of the source | 0.02 V, −0.2 V (signs reversed here) |
    | α_off, α_on | 1, 3 |
    | k_off, k_on | 5e−4 m/s, 10 m/s over 3 nm |

    Curve: no change below 0.2 V (potentiation) and 0.02 V (depression); full switching at 0.5 V in
    0.09 ns (set) and 250 ns (reset). Constants as used by MemTorch's VTEAM, not confirmed in the
    paper.

    Source: Kvatinsky et al., IEEE Trans. Circuits Syst. II 62, 786 (2015),
    doi:10.1109/TCSII.2015.2433536.
    """
    law = VTEAM(
        k_on=10 / 3e-9,
        k_off=5e-4 / 3e-9,
        v_on=0.2,
        v_off=-0.02,
        alpha_on=3.0,
        alpha_off=1.0,
        v_set=0.22,
        v_reset=-0.1,
        width=3e-9,
    )
    return Device(1e-3, 20e-3, update=law)

"""Devices fitted for in-situ training by IBM's aihwkit (Rasch et al., arXiv:2104.02184).

aihwkit's weights w in [w_min, w_max] are mapped onto the conductance window here: g_min is w_min
and g_max is w_max, unless a preset says otherwise. Its step dw_min at w = 0 and slopes γ become the
step and slopes at mid-window. The windows in siemens are not part of those fits: where a paper
gives none that could be confirmed, the preset says "assumed".
"""

from __future__ import annotations

from devices.device import Device
from devices.electrical import WritePulse
from devices.read.apparent import ApparentWriteNoise
from devices.retention.leak import Leak
from devices.update.abrupt import AbruptReset
from devices.update.exp_step import ExpStep
from devices.update.soft_reference import SoftBoundsReference
from devices.update.stepped import ConstantStep, LinearStep


def _constant(dw_min: float, g_min: float, g_max: float, sigma_up_down: float) -> ConstantStep:
    return ConstantStep(
        dg_min=dw_min / 2 * (g_max - g_min),
        sigma_c2c=0.3,
        sigma_d2d=0.3,
        sigma_up_down=sigma_up_down,
        sigma_bounds=0.3,
    )


def gokmen_vlasov() -> Device:
    """Resistive processing unit of Gokmen & Vlasov, 9 … 71 nS (14 … 112 MΩ, unconfirmed).

    | quantity | value |
    |---|---|
    | states | 1250 (range 2, step 0.0016) |
    | spread of step, bounds | 30 %, 30 % |
    | spread of up/down imbalance, cycle noise | 1 %, 30 % |

    Curve: straight lines, up and down alike.

    Source: Gokmen & Vlasov, Front. Neurosci. 10:333 (2016), doi:10.3389/fnins.2016.00333.
    """
    low, high = 1 / 112e6, 1 / 14e6
    pulse = WritePulse(1.0, 1.0, 1e-9, 1e-9, "Gokmen & Vlasov 2016: ±0.5 V on both lines for 1 ns")
    return Device(low, high, update=_constant(0.0016, low, high, 0.01), write_pulse=pulse)


def idealised_rpu() -> Device:
    """The device above with 10,000 states and no imbalance, 9 … 71 nS (unconfirmed).

    Curve: straight lines, up and down alike.

    Source: Rasch, Gokmen & Haensch, IEEE Design & Test 37, 19 (2020), arXiv:1906.02698.
    """
    low, high = 1 / 112e6, 1 / 14e6
    return Device(low, high, update=_constant(0.0002, low, high, 0.0))


def reram_es() -> Device:
    """HfO2 ReRAM of Gong et al. as exponential steps, 30 … 60 µS.

    | quantity | value |
    |---|---|
    | step | 0.00135 of half the window times 1 + 1.18 e^{5z} up, 0.74 (1 + 0.081 e^{−5z}) down |
    | spread of step, imbalance, bounds | 20 %, 5 %, 30 % |
    | cycle noise, apparent write noise | 500 % of a step, 75 steps |

    Curve: fast at the start in both directions, noise of many steps on top; up steps fall and down
    steps grow with g. aihwkit's up_down = 0.259 shrinks its down step alone, as its code does
    (contrary to its text): mean and imbalance here follow the code.

    Source: Gong et al., Nat. Commun. 9:2102 (2018), doi:10.1038/s41467-018-04485-1.
    """
    span = 30e-6
    mean = 1 - 0.259359 / 2  # of steps 1 and 1 − 0.259359
    law = ExpStep(
        dg_min=0.00135 * mean / 2 * span,
        up_down=0.259359 / mean,
        sigma_c2c=5.0,
        sigma_d2d=0.2,
        sigma_up_down=0.05,
        sigma_bounds=0.3,
        A_up=-1.18445,
        A_down=-0.081404,
        gamma_up=5.0,
        gamma_down=5.0,
        a=-0.5,
        b=-0.5,
    )
    return Device(30e-6, 60e-6, update=law, read=ApparentWriteNoise(75 * 0.00135 / 2))


def reram_sb() -> Device:
    """HfO2 ReRAM of Gong et al. as soft bounds at its symmetry point, 30 … 60 µS.

    | quantity | value |
    |---|---|
    | states | 1000 (range 2, step 0.002 at the symmetry point) |
    | bounds about the symmetry point | 1.25 and −0.75 of half the window |
    | spread of step, imbalance, bounds | 30 %, 1 %, 30 % |
    | cycle noise, apparent write noise | 375 % of a step (additive), 56 steps |

    Curve: exponentials towards the two bounds, equal steps at mid-window, where weight zero lies.

    Source: Gong et al., Nat. Commun. 9:2102 (2018), doi:10.1038/s41467-018-04485-1.
    """
    span = 30e-6
    up, down = 1 - 0.25 / 1.25, 1 + 0.25 / 0.75  # steps a quarter above the symmetry point
    law = SoftBoundsReference(
        dg_min=0.002 * (up + down) / 2 / 2 * span,
        up_down=2 * (up - down) / (up + down),
        sigma_d2d=0.3,
        sigma_up_down=0.01,
        sigma_bounds=0.3,
        sigma_add=3.75 * 2 / (up + down),
    )
    return Device(30e-6, 60e-6, update=law, read=ApparentWriteNoise(56 * 0.002 / 2))


def _array(
    dw: float, sigma_log: float, c2c: float, bounds: tuple[float, float], write: float
) -> Device:
    law = SoftBoundsReference(
        dg_min=dw / 2 * 80e-6,
        sigma_add=c2c,
        sigma_up_down=0.01,
        sigma_bounds=bounds,
        sigma_log=sigma_log,
        sigma_reference=0.05,
    )
    return Device(10e-6, 90e-6, update=law, read=ApparentWriteNoise(write * dw / 2))


def reram_array_om() -> Device:
    """ReRAM array with optimised material, 10 … 90 µS (assumed).

    | quantity | value |
    |---|---|
    | states | 21 |
    | spread of step (lognormal), lower and upper bound | 0.78, 0.57 and 0.35 |
    | cycle noise, apparent write noise | 42 % of a step (additive), 1.4 steps |
    | error of the subtracted symmetry point | 5 % of half the window |

    Curve: saturates in both directions within some ten pulses. aihwkit's 13.5 % corrupt devices are
    left out, as there: add `faults=StuckAt(p_any=0.135)`.

    Source: Gong, Rasch et al., IEDM 2022, doi:10.1109/IEDM45625.2022.10019569.
    """
    return _array(0.0949, 0.7829, 0.4158, (0.5694, 0.3499), 1.4113)


def reram_array_hfo2() -> Device:
    """ReRAM array with baseline HfO2, 10 … 90 µS (assumed).

    | quantity | value |
    |---|---|
    | states | 4 |
    | spread of step (lognormal), lower and upper bound | 0.71, 0.60 and 0.43 |
    | cycle noise, apparent write noise | 22 % of a step (additive), 0.58 steps |
    | error of the subtracted symmetry point | 5 % of half the window |

    Curve: saturates within a few pulses. aihwkit's 9.8 % corrupt devices are left out.

    Source: Gong, Rasch et al., IEDM 2022, doi:10.1109/IEDM45625.2022.10019569.
    """
    return _array(0.4622, 0.7125, 0.2174, (0.5994, 0.4295), 0.5841)


def _linear(
    dw_min: float, gamma_up: float, gamma_down: float, w_max: float, w_min: float, span: float
) -> dict[str, float]:
    """Fields of steps given at w = 0 of a range w_min … w_max that mid-window halves."""
    middle, half = (w_max + w_min) / 2, (w_max - w_min) / 2
    up, down = 1 - gamma_up * middle / w_max, 1 - gamma_down * middle / w_min
    return {
        "dg_min": dw_min * (up + down) / 2 / (2 * half) * span,
        "up_down": 2 * (up - down) / (up + down),
        "gamma_up": gamma_up * half / w_max / up,
        "gamma_down": gamma_down * half / -w_min / down,
    }


def capacitor(cycle: float = 1e-6) -> Device:
    """Capacitor with a read transistor, 1 … 11 µS (assumed).

    | quantity | value |
    |---|---|
    | states | 400 (range 2, step 0.005) |
    | slope of both steps | 5 % (spread 1 %) |
    | spread of step, imbalance, bounds | 10 %, 6 %, 7 % |
    | cycle noise | 30 % of a step (additive) |
    | lifetime | 1e6 training cycles (spread 30 %), back to mid-window |

    Curve: nearly straight lines; 1/e of a weight is left after 1e6 cycles without updates.

    Args:
        cycle: duration of one training cycle [s], > 0: aihwkit counts its lifetime in cycles.

    Source: Li et al., VLSI Technology 2018, doi:10.1109/VLSIT.2018.8510648.
    """
    law = LinearStep(
        sigma_add=0.3,
        sigma_d2d=0.1,
        sigma_up_down=0.06,
        sigma_bounds=0.07,
        sigma_gamma=0.01,
        **_linear(0.005, 0.05, 0.05, 1.0, -1.0, 10e-6),
    )
    return Device(1e-6, 11e-6, update=law, retention=Leak(1e6 * cycle, rest=0.5, sigma_d2d=0.3))


def ecram_li() -> Device:
    """Lithium electrochemical RAM, 60 … 160 µS (assumed).

    | quantity | value |
    |---|---|
    | states | 1000 (range 2, step 0.002 at the symmetry point) |
    | slopes | 0.1153 up, 0.5085 down (spread 5 %) |
    | spread of step, imbalance, bounds | 10 %, 1 %, 5 % |
    | cycle noise | 30 % of a step |

    Curve: nearly straight, gently saturating; up and down steps are equal 0.17 of half the window
    below mid-window.

    Source: Tang et al., IEDM 2018, doi:10.1109/IEDM.2018.8614551.
    """
    law = LinearStep(
        sigma_c2c=0.3,
        sigma_d2d=0.1,
        sigma_up_down=0.01,
        sigma_bounds=0.05,
        sigma_gamma=0.05,
        **_linear(0.002, 0.1153, 0.5085, 1.1724, -0.8276, 100e-6),
    )
    return Device(60e-6, 160e-6, update=law)


def ecram_mo() -> Device:
    """Metal-oxide electrochemical RAM, 60 … 160 µS (assumed).

    | quantity | value |
    |---|---|
    | states | 7089 (range 2, step 2.8214e−4 at the symmetry point) |
    | slopes | 0.4152 up, 0.7342 down (spread 5 %) |
    | spread of step, imbalance, bounds | 10 %, 1 %, 5 % |
    | cycle noise | 200 % of a step |

    Curve: saturating gently; up and down steps are equal 0.17 of half the window below mid-window.

    Source: Kim et al., IEDM 2019, doi:10.1109/IEDM19573.2019.8993463.
    """
    law = LinearStep(
        sigma_c2c=2.0,
        sigma_d2d=0.1,
        sigma_up_down=0.01,
        sigma_bounds=0.05,
        sigma_gamma=0.05,
        **_linear(2.8214e-4, 0.4152, 0.7342, 1.1714, -0.8286, 100e-6),
    )
    return Device(60e-6, 160e-6, update=law)


def pcm_onesided() -> Device:
    """Phase-change memory that is SET gradually and RESET at once, 0.1 … 20 µS (assumed).

    | quantity | value |
    |---|---|
    | SET step | 0.01 of half the window times 1 + 27 e^{−2.5 w}, w = 0 … 2 from g_min |
    | noise of a pulse | 60 % of the step + 2.5 prefactors + 6.5 % of g − g_min |
    | spread of step, upper bound | 20 %, 10 % of the window |
    | after RESET | g_min, half a percent of the window above it |

    Curve: the first SET pulse crosses a seventh of the window, the twentieth a hundredth. Only
    schemes with whole pulse counts drive it; potentiate one device of a pair and refresh it (route
    `OneSided`).

    Source: Nandakumar et al., Front. Neurosci. 14:406 (2020), doi:10.3389/fnins.2020.00406;
    constants as in aihwkit's PCMPresetDevice.
    """
    span = 19.9e-6
    law = ExpStep(
        dg_min=0.01 / 2 * span,
        sigma_c2c=0.6,
        sigma_d2d=0.2,
        sigma_up_down=0.05,
        sigma_bounds=(0.0, 0.2),  # a tenth of w_max = 2, which is twice half the window
        sigma_add=0.6 * 0.042 / 0.01,
        sigma_state=0.6 * 0.108,
        A_up=-27.235,
        A_down=-2.235,
        gamma_up=2.5,
        gamma_down=2.5,
        a=-1.0,
        b=-1.0,
    )
    return Device(0.1e-6, 20e-6, update=AbruptReset(law, sigma=0.01 / 2))

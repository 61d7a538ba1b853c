"""The device families of the main job: cells of one window, each with one published update law.

All are trained with the same pulses (stochastic, bit length 31) through 8-bit converters, so that
only the cell and the route of its updates differ from row to row.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import crossbar as xb
from devices import (
    ConstantStep,
    Device,
    ExpStep,
    LinearStep,
    NeuroSim,
    SoftBounds,
    Update,
    presets,
)

G_MIN, G_MAX = 1e-6, 50e-6  # [S]
CONVERTERS = xb.Periphery(dac=xb.DAC(bits=8), adc=xb.ADC(bits=8))
PULSES = xb.InSitu(xb.Aggregated(bl=31))


@dataclass(frozen=True)
class Family:
    """A device on a chip, with a name short enough for a figure and a sentence about it."""

    name: str
    chip: xb.Chip
    about: str


def chip(device: Device, route: xb.Route | None = None) -> xb.Chip:
    """The chip of the main job around a device: pairs, 8-bit converters, ideal wires."""
    return xb.Chip(
        device=device,
        mapping=xb.Differential(route=route or xb.PushPull()),
        forward=CONVERTERS,
    )


def narrow(wide: xb.Chip) -> xb.Chip:
    """The same with an ADC as wide as √64 weights of the window, half of which a pair spans."""
    amps = 0.5 * CONVERTERS.v_max * (G_MAX - G_MIN) * 8.0
    adc = xb.ADC(bits=8, range=xb.Fixed(amps))
    return replace(wide, forward=replace(wide.forward, adc=adc))


def _cell(update: Update) -> Device:
    return Device(g_min=G_MIN, g_max=G_MAX, update=update)


def _steps(states: float) -> float:
    return (G_MAX - G_MIN) / states


def families() -> dict[str, Family]:
    """Every family by its short key, the mildest first."""
    spread = {"sigma_c2c": 0.3, "sigma_d2d": 0.3}
    fine, coarse = _steps(1000), _steps(300)
    balanced = ConstantStep(dg_min=fine, **spread)
    tilted = ConstantStep(dg_min=fine, up_down=0.2, **spread)
    return {
        "ideal": Family(
            "ideal cells",
            chip(presets.ideal()),
            "1000 equal steps, no noise of any kind: what remains is the pulses and converters",
        ),
        "constant": Family(
            "constant step",
            chip(_cell(balanced)),
            "1000 steps of equal size, 30 % noise from cycle to cycle and from cell to cell",
        ),
        "constant-reference": Family(
            "constant step, fixed reference",
            chip(_cell(balanced), xb.Reference()),
            "the same cells, one of each pair idle in mid-window",
        ),
        "imbalance": Family(
            "up/down 0.2, push-pull",
            chip(_cell(tilted)),
            "up steps 20 % larger than down steps; both cells of a pair are pulsed, oppositely",
        ),
        "imbalance-reference": Family(
            "up/down 0.2, fixed reference",
            chip(_cell(tilted), xb.Reference()),
            "the same imbalance where one cell of each pair is idle: nothing cancels it",
        ),
        "imbalance-float": Family(
            "up/down 0.2, reference, no converters",
            replace(chip(_cell(tilted), xb.Reference()), forward=xb.Periphery()),
            "the same cells read without converters: what the imbalance itself costs",
        ),
        "imbalance-narrow": Family(
            "up/down 0.2, reference, narrow ADC",
            narrow(chip(_cell(tilted), xb.Reference())),
            "the same cells behind converters whose full scale, 39 µA, is that of 64 weights of "
            "random sign: the imbalance moves all weights to one side, and it is the converter "
            "that cuts them",
        ),
        "linear": Family(
            "linear step",
            chip(_cell(LinearStep(dg_min=fine, gamma_up=0.3, gamma_down=0.3, **spread))),
            "steps that shrink by 30 % towards either bound",
        ),
        "soft": Family(
            "soft bounds",
            chip(_cell(SoftBounds(dg_min=fine, **spread))),
            "steps that vanish at the bounds, as in filamentary memory",
        ),
        "neurosim-0.5": Family(
            "NeuroSim label ±0.5",
            chip(_cell(NeuroSim(nl_up=0.5, nl_down=-0.5, states_up=300, states_down=300))),
            "nearly straight response curves, 300 states",
        ),
        "neurosim-5": Family(
            "NeuroSim label ±5",
            chip(_cell(NeuroSim(nl_up=5.0, nl_down=-5.0, states_up=300, states_down=300))),
            "the same number of states on strongly bent, asymmetric curves",
        ),
        "exponential": Family(
            "exponential step",
            chip(_cell(ExpStep(dg_min=coarse, **spread))),
            "nearly equal steps that collapse exponentially just before the bounds, 300 states",
        ),
    }


def pcm() -> xb.Chip:
    """Phase-change cells for programmed inference: writing error, drift, no update law."""
    return chip(presets.pcm())

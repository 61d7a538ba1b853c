"""Pulses of other amplitudes and widths: another law whose pulses are worth more or less."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from devices._check import finite, positive
from devices.draw import Draw
from devices.part import Pulses, Window
from devices.update.around import Around


@dataclass(frozen=True)
class AmplitudeStep(Around):
    """A law whose pulse of v volts and t seconds is worth φ of the law's own pulses.

        φ(v, t) = (e^{|v|/v₀} − 1)/(e^{|v_ref|/v₀} − 1) (t/width)^κ,   0 at 0 V
        v_ref = v_set and v₀ = v0_up for v > 0,  v_reset and v0_down for v < 0

    `pulse` gives pulses of the reference, as the law itself. `drive` gives one pulse of any voltage
    and width, so that trains of rising amplitude (NeuroSim's non-identical pulses, incremental
    programming) are calls of `drive`. Whole pulses are the law's own and a part of one does that
    part of its step, so steps keep their shape in g and change their size. Cells that see a share
    of the voltage (half-selected, behind wires) move by the ratio of φ. A large v₀ is a step
    proportional to the voltage.

    Args:
        law: what a pulse of the reference does; not a law of whole pulses alone.
        v_set: voltage of an up pulse of the law [V], > 0.
        v_reset: voltage of a down pulse [V], < 0.
        width: duration of both [s], > 0.
        v0_up: voltage over which up steps grow e-fold [V], > 0.
        v0_down: the same of down steps [V], > 0.
        kappa: exponent κ of the width, >= 0; 1: the time under voltage counts.

    Raises:
        ValueError, TypeError: a field out of range, or a law that needs whole pulse counts.

    Source: the rate s(v) f(R, r(v)) with s exponential in v of Messaris et al., "A compact
    Verilog-A ReRAM switching model" (arXiv 1703.01167) and IEEE TCAD 37, 3151 (2018), whose f ends
    at a resistance r(v); here f is that of the law and has no part of v. Trains: `VinitLTP`,
    `VstepLTP`, `PWinitLTP` of MLP+NeuroSim 3.0 (Cell.h), which take the amplitude into the energy
    of a write and not into its step. κ is ours.
    """

    v_set: float = 1.0
    v_reset: float = -1.0
    width: float = 1e-6
    v0_up: float = 0.2
    v0_down: float = 0.2
    kappa: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, unit in (("v_set", "V"), ("width", "s"), ("v0_up", "V"), ("v0_down", "V")):
            positive(name, getattr(self, name), unit)
        positive("-v_reset", -finite("v_reset", self.v_reset), "V")
        if not finite("kappa", self.kappa) >= 0:
            raise ValueError(f"kappa must be >= 0, got {self.kappa!r}")
        if self.law.whole:
            raise ValueError(
                f"law must take parts of a pulse, {type(self.law).__name__} needs whole ones"
            )

    def worth(self, share: Tensor, *, up: bool) -> Tensor:
        """Pulses of the reference that one of a share of its voltage is worth."""
        v_ref, v0 = (self.v_set, self.v0_up) if up else (-self.v_reset, self.v0_down)
        # e^{v/v₀} − 1 over that of the reference, without overflow
        share = share.double().clamp(min=0)
        grown = torch.exp((v_ref / v0 * (share - 1)).clamp(max=700.0))
        return grown * -torch.expm1(-v_ref / v0 * share) / -math.expm1(-v_ref / v0)

    def partial(self, p: Any, share: Tensor) -> tuple[Tensor, Tensor]:
        """Ratios of φ, whatever the state."""
        up, down = (self.worth(share, up=way).to(share.dtype) for way in (True, False))
        return up, down

    def drive(
        self, window: Window, g: Tensor, p: Any, v: Tensor, dt: float, draw: Draw
    ) -> tuple[Tensor, Any]:
        """One pulse of v for dt."""
        longer = (dt / self.width) ** self.kappa
        v = v.expand_as(g)
        up = self.worth(v / self.v_set, up=True) * longer
        down = self.worth(v / self.v_reset, up=False) * longer
        return self.pulse(window, g, p, Pulses(up, down).to(g.dtype), draw)

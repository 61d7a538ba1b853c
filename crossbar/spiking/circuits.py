"""Activations as small circuits give them, in place of torch's."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from crossbar.spiking.surrogates import ATan, Surrogate, fire
from devices._check import at_least, finite, instance, positive

THERMAL = 1.380649e-23 / 1.602176634e-19
"""k/q [V/K]."""


class Circuit(nn.Module):
    """An activation that a circuit computes."""

    def events(self, inputs: tuple[Any, ...], output: Tensor) -> dict[str, float]:
        """One value each, for `xb.ledger`."""
        return {"activation": float(output.numel())}


class Comparator(Circuit):
    """1 where x·unit exceeds a comparator's threshold and its offset, else 0.

    Args:
        threshold: [V].
        unit: volts of an input of 1, > 0.
        sigma_offset: spread of the offsets [V], >= 0; drawn once for the last dimension, at the
            first input.
        surrogate: its derivative.
        seed: of the offsets.
    """

    def __init__(
        self,
        threshold: float = 0.0,
        *,
        unit: float = 1.0,
        sigma_offset: float = 0.0,
        surrogate: Surrogate = ATan(),  # noqa: B008 - frozen
        seed: int = 0,
    ) -> None:
        super().__init__()
        instance("surrogate", surrogate, Surrogate, optional=False)
        self.threshold, self.unit = finite("threshold", threshold), positive("unit", unit, "V")
        self.sigma, self.seed = at_least("sigma_offset", sigma_offset, 0, "V"), seed
        self.surrogate = surrogate

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        level: Tensor | float = self.threshold
        if self.sigma:
            draw = torch.Generator().manual_seed(self.seed)
            offset = torch.randn(x.shape[-1], generator=draw)
            level = level + self.sigma * offset.to(x)
        return fire(x - level / self.unit, True, self.surrogate)


class DifferentialPair(Circuit):
    """The current of a bipolar or subthreshold differential pair.

        (i₁ − i₂)/I_tail = tanh(v/(2 n V_T)),   V_T = kT/q

    Args:
        unit: volts of an input of 1, > 0; 2 n V_T = 51.7 mV at 300 K makes it tanh(x) for n = 1.
        slope: n, 1 for bipolar transistors, some 1.2 to 1.6 subthreshold.
        temperature: [K], > 0.
        one_sided: whether one output alone is used, i₁/I_tail = (1 + tanh)/2: a sigmoid of 2x.

    Source: Mead, Analog VLSI and Neural Systems (1989), chapter 5.
    """

    def __init__(
        self,
        *,
        unit: float = 0.0517,
        slope: float = 1.0,
        temperature: float = 300.0,
        one_sided: bool = False,
    ) -> None:
        super().__init__()
        self.one_sided = one_sided
        span = 2 * positive("slope", slope) * THERMAL * positive("temperature", temperature, "K")
        self.gain = positive("unit", unit, "V") / span

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        y = torch.tanh(self.gain * x)
        return (1 + y) / 2 if self.one_sided else y


class DiodeRectifier(Circuit):
    """The voltage behind a diode on a load resistor, in units of `unit`: a soft ReLU.

        v_in = v + n V_T ln(1 + v/(R I_s)),   v = n V_T W(a e^(a + v_in/(n V_T))) − R I_s,
        a = R I_s/(n V_T), W Lambert's function

    About a diode drop below the input; nothing to speak of passes below zero (−R I_s at least).

    Args:
        unit: volts of an input of 1, > 0.
        saturation: I_s [A], > 0.
        load: R [Ω], > 0.
        slope: n, >= 1.
        temperature: [K], > 0.

    Source: Banwell & Jayakumar, Electron. Lett. 36, 291 (2000), doi:10.1049/el:20000301.
    """

    def __init__(
        self,
        *,
        unit: float = 1.0,
        saturation: float = 1e-12,
        load: float = 1e6,
        slope: float = 1.0,
        temperature: float = 300.0,
    ) -> None:
        super().__init__()
        self.unit = positive("unit", unit, "V")
        self.scale = at_least("slope", slope, 1) * THERMAL * positive("temperature", temperature)
        floor = positive("saturation", saturation, "A") * positive("load", load, "ohm")
        self.a = floor / self.scale

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        # ln of W's argument; with u = ln W: u + e^u = that, by Newton from a bound on its side
        z = math.log(self.a) + self.a + x.double() * (self.unit / self.scale)
        with torch.no_grad():
            u = torch.where(z > 1, torch.log(z.clamp(min=1)), z)
            for _ in range(8):
                w = u.exp()
                u = u - (u + w - z) / (1 + w)
            w = u.exp()
        u = u - (u + w - z) / (1 + w)  # once more, for the gradient 1/(1 + W)
        return ((u.exp() - self.a) * (self.scale / self.unit)).to(x.dtype)

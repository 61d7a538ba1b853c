"""HfO2 RRAM of Milo et al.: programming error and the nonlinear current of a read."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from devices.part import IV, Window
from devices.write.state import NormalWrite


@dataclass(frozen=True)
class MiloWrite(NormalWrite):
    """Error after incremental programming with verification, nearly the same for every state.

        σ [µS] = max(0, 4.782321 − 0.009107 g),   g = target in µS

    Valid for 50 … 225 µS.

    Source: Milo et al., IEEE IRPS 2021, doi:10.1109/IRPS46558.2021.9405119; fit as in CrossSim 3's
    RRAMMilo device, doi:10.2172/1869509.
    """

    def std(self, window: Window, target: Tensor) -> Tensor:
        """Per cell [S]."""
        return (4.782321e-6 - 0.009107 * target).clamp(min=0)


@dataclass(frozen=True)
class MiloIV(IV):
    """Cubic current with coefficients that depend on the low-voltage conductance.

        I = g V + a V² + b V³,   L = log₁₀ g
        a = 1.388e−4 L³ + 1.541e−3 L² + 5.711e−3 L + 7.063e−3   [A/V²]
        b = 8.871e−5 L² + 6.7919e−4 L + 1.2968e−3               [A/V³]

    A fit of four cells of 62.5 … 110 µS and an assumed linear one of 225 µS, read at |V| <= 0.5 V;
    cells beyond 50 … 225 µS are scaled from the nearest end of that range, so that the current
    stays proportional to g and no current flows at g = 0.

    Source: Milo et al., IEEE IRPS 2021, doi:10.1109/IRPS46558.2021.9405119; fit as in CrossSim 3's
    RRAMMilo device, doi:10.2172/1869509.
    """

    def current(self, g: Tensor, v: Tensor) -> Tensor:
        """Current [A]."""
        fitted = g.clamp(50e-6, 225e-6)
        log = torch.log10(fitted)
        square = ((1.388e-4 * log + 1.541e-3) * log + 5.711e-3) * log + 7.063e-3
        cube = (8.871e-5 * log + 6.7919e-4) * log + 1.2968e-3
        return g * v * (1 + (square + cube * v) * v / fitted)

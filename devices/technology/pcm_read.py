"""1/f read noise of phase-change memory, growing with the time since programming."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from devices._check import positive
from devices.part import Window
from devices.read.state import FlickerNoise


@dataclass(frozen=True)
class PCMRead(FlickerNoise):
    """1/f noise integrated from the inverse of the time since programming to the read bandwidth.

        σ = g(t) Q √ln((t + t0 + t_read)/(2 t_read)),   Q = min(0.0088/x^0.65, 0.2),   x =
        g_prog/g_max

    Q keeps the state that was programmed while g(t) drifts. Successive reads are taken as
    independent, as in the source: their 1/f correlation is not modelled; a read longer than the
    time since programming has no noise. Valid for t >= 0 and conductances programmed within
    0 … g_max.

    Args:
        t0: time of the reference read after programming [s], > 0.
        t_read: duration of a read [s], > 0.

    Raises:
        ValueError: a field out of range.

    Source: Nandakumar et al., ICECS 2019, doi:10.1109/ICECS46596.2019.8964852; Joshi et al., Nat.
    Commun. 11:2473 (2020), doi:10.1038/s41467-020-16108-9.
    """

    t0: float = 20.0
    t_read: float = 250e-9

    def __post_init__(self) -> None:
        positive("t0", self.t0, "s")
        positive("t_read", self.t_read, "s")

    def _q(self, window: Window, g: Tensor) -> Tensor:
        x = (g / window.g_max).clamp(min=1e-6)
        return (0.0088 * x**-0.65).clamp(max=0.2)

"""Inputs as the lengths of pulses."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from crossbar.converters.dac import DAC


@dataclass(frozen=True)
class PulseWidth(DAC):
    """Lines at ±v_max for a time that goes with the input; the charge of a read is converted.

        Q_j = Σ_i ±v_max G_ij |x_i| T

    On ohmic cells, wires included, the product is that of voltages. White read noise gathers while
    a line is driven, its variance goes with |x| in place of x²: small inputs are noisier.

    Args:
        bits: clock ticks, 2^(b−1) − 1 of the longest pulse.
        noise: Gaussian jitter of a pulse's length, relative to T.
        v_max, range, passes, sigma_offset: see `DAC`.

    Source: Khaddam-Aljameh et al., IEEE J. Solid-State Circuits 57, 1027 (2022),
    doi:10.1109/JSSC.2022.3140414 (HERMES core).
    """

    def energy(self, v: Tensor) -> Tensor:
        """The time that a line is driven."""
        return v.abs()

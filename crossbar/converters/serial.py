"""Inputs digit by digit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from crossbar.converters.dac import DAC
from crossbar.quantise import levels
from devices._check import flag, whole


@dataclass(frozen=True)
class SerialDAC(DAC):
    """Inputs applied digit by digit in time, each reading converted, or all of them together.

    The magnitude k of 0 … n = 2^(b−1) − 1 is written in digits of `width` bits, the sign is that of
    the voltage; digit j drives its line with d_j/(2^width − 1) of v_max and counts
    2^(width j) (2^width − 1)/n. One bit a digit needs drivers of three levels alone.

    Args:
        bits: resolution of the whole input, 2 to 24.
        width: bits of a digit, 1 to bits − 1; fewer in the last where they do not divide.
        v_max, range, noise, passes: see `DAC`; noise at every digit.
        analog: whether the currents of the digits are weighed and added on capacitors before one
            conversion; else each is converted, and digital logic adds the codes.

    Raises:
        TypeError, ValueError: a field out of range.

    Source: Shafiee et al., ISCA 2016, doi:10.1109/ISCA.2016.12 (ISAAC, one bit a digit).
    """

    at_once: ClassVar[bool] = False

    width: int = 1
    analog: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("bits", self.bits, 2, 24)
        whole("width", self.width, 1, int(self.bits or 2) - 1)
        flag("analog", self.analog)
        if self.analog and self.passes:
            raise ValueError("passes=True subtracts codes digitally, and analog=True has one alone")
        if not self.signed:
            raise ValueError("digits of SerialDAC carry a sign, got signed=False")

    @property
    def gathered(self) -> bool:  # type: ignore[override]
        """Whether digits are added before the conversion."""
        return self.analog

    def _coded(self, v: Tensor) -> list[tuple[Tensor, float]]:
        assert self.bits is not None
        n, base = levels(self.bits), 2**self.width
        left = torch.round(v * n).clamp(-n, n)
        sign, left = left.sign(), left.abs()
        found, count = [], 1
        while count <= n:
            more = torch.floor(left / base)
            found.append((sign * (left - base * more) / (base - 1), count * (base - 1) / n))
            left, count = more, count * base
        return found
